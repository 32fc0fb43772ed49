"""The few methods we need of each neighbour, as Protocols."""
