"""Filters: each says of a host that it will do, or why not."""
