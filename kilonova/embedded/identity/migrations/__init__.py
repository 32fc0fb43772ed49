"""The history of the identity tables."""
