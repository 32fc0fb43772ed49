"""The HTTP kit every service is made of: routes, one answer pipeline, schemas, views, client."""
