"""The envelope oslo.messaging reads."""

from __future__ import annotations

import json

from kilonova.notifications.envelope import message, wrap
from kilonova.notifications.facts import Who
from tests.support.compute import NOW, server_id


def test_the_envelope() -> None:
    text = message(
        id=server_id(1),
        publisher="nova-compute:h1",
        event="instance.lock",
        priority="INFO",
        payload={"a": 1},
        now=NOW,
        who=Who("req-1", "u1", "p1"),
    )
    outer = json.loads(wrap(text))
    assert outer["oslo.version"] == "2.0"
    inner = json.loads(outer["oslo.message"])
    assert inner["message_id"] == server_id(1)
    assert inner["_unique_id"] == server_id(1).replace("-", "")
    assert inner["timestamp"] == "2026-01-31 12:00:00.123456"
    assert (inner["publisher_id"], inner["priority"]) == ("nova-compute:h1", "INFO")
    assert inner["_context_request_id"] == "req-1"
    assert "token" not in text
