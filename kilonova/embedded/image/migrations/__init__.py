"""The history of the image tables."""
