"""Notifications: their table, their payloads, the outbox's writer and its sender."""
