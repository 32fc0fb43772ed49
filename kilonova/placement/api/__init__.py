"""The Placement API 1.0 to 1.39: one module a resource."""
