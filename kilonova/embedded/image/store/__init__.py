"""Every SQL statement of the image service."""
