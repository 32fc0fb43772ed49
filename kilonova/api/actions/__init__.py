"""``POST /servers/{server_id}/action`` and the small resources under a server."""
