"""``/servers``: create, list, show, update, delete."""
