"""The schema history of the network service."""
