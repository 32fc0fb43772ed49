"""What travels: a notification as oslo.messaging's listeners read it (message format 2.0)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from kilonova.base.clock import UTC
from kilonova.notifications.facts import Who

VERSION = "2.0"


def message(
    *,
    id: str,
    publisher: str,
    event: str,
    priority: str,
    payload: dict[str, Any],
    now: dt.datetime,
    who: Who,
) -> str:
    """The inner message as JSON text. It has one id however often it is sent."""
    return msgspec.json.encode(
        {
            "message_id": id,
            "publisher_id": publisher,
            "event_type": event,
            "priority": priority,
            "payload": payload,
            "timestamp": now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
            "_unique_id": id.replace("-", ""),
            **_context(who, now),
        }
    ).decode()


def wrap(text: str) -> bytes:
    """A message in the envelope of the ``messagingv2`` driver."""
    return msgspec.json.encode({"oslo.version": VERSION, "oslo.message": text})


def _context(who: Who, now: dt.datetime) -> dict[str, Any]:
    """The request's context; never a token."""
    return {
        "_context_request_id": who.request_id or None,
        "_context_user_id": who.user_id or None,
        "_context_user": who.user_id or None,
        "_context_project_id": who.project_id or None,
        "_context_tenant": who.project_id or None,
        "_context_is_admin": False,
        "_context_read_deleted": "no",
        "_context_timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"),
    }
