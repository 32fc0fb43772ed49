"""The routes of the Identity API, a module per resource."""
