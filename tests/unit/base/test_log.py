from __future__ import annotations

import io
import json
import logging

from kilonova.base import log


def test_secrets_are_masked() -> None:
    assert "hunter2" not in log.mask('{"adminPass": "hunter2"}')
    assert "hunter2" not in log.mask("password=hunter2 and more")
    assert "guest" not in log.mask("rabbit://user:guest@host/").partition("@")[0].split(":")[-1]


def test_lines_carry_the_request_id() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        log.setup(json_lines=True, stream=stream)
        log.request_id.set("req-7")
        logging.getLogger("x").info("hello %s", "you")
        row = json.loads(stream.getvalue())
        assert (row["message"], row["request_id"]) == ("hello you", "req-7")
        stream.truncate(0)
        log.setup(stream=stream)
        logging.getLogger("x").info("again")
        assert "[req-7] again" in stream.getvalue()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        log.request_id.set("")
