"""A network service with the Neutron v2.0 API and a real data plane on Linux."""
