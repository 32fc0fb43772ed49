"""The handlers of the network API, a module per resource."""
