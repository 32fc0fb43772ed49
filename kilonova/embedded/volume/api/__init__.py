"""The routes of the block storage API, a module per resource."""
