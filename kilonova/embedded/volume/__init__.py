"""The embedded block storage service: Cinder's API v3 with sparse files in a directory."""
