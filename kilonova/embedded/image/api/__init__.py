"""The routes of the Image API, a module per resource."""
