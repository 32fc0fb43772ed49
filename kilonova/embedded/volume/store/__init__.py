"""SQL of the block storage service."""
