"""The history of the volume tables."""
