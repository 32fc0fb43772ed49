"""Clients of the neighbours: each implements one Protocol of ``interfaces``."""
