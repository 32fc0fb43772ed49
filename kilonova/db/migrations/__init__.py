"""Histories of the databases of compute and placement."""
