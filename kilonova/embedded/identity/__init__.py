"""The embedded identity service: Keystone's Identity API v3."""
