"""The Compute API: routes, schemas, views."""
