"""The history of Placement's tables."""
