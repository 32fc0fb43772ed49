"""Every SQL statement of the network service."""
