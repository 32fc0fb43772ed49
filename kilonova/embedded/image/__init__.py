"""The embedded image service: Glance's Image API v2 with files in a directory."""
