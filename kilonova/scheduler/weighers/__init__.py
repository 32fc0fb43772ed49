"""Weighers: each gives a host a number; the sum of their normalised numbers is its rank."""
