"""Every SQL statement of the identity service, a module per noun."""
