"""Logging: the request id in every line, as oslo-format text or as JSON."""

from __future__ import annotations

import contextvars
import datetime as dt
import json
import logging
import re
import sys
from pathlib import Path
from typing import TextIO

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
global_request_id: contextvars.ContextVar[str] = contextvars.ContextVar(
    "global_request_id", default=""
)
who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="")

_SECRET = re.compile(
    r"""(?ix)
    (["']?(?:admin_?pass(?:word)?|password|secret|token|x-auth-token|x-subject-token|
       private_key|transport_url|connection)["']?\s*[:=]\s*)(["']?)[^\s"',}]+\2
    """
)
_URL_SECRET = re.compile(r"(\w+://[^:/@\s]+:)[^@/\s]+@")
_SECRET_WORDS = ("pass", "secret", "token", "private_key", "transport_url", "connection")


def mask(text: str) -> str:
    """The text with passwords, tokens and credentials in URLs replaced by ``***``."""
    small = text.lower()
    if any(word in small for word in _SECRET_WORDS):
        text = _SECRET.sub(r"\1***", text)
    return _URL_SECRET.sub(r"\1***@", text) if "://" in text else text


class OsloFormatter(logging.Formatter):
    """``date time pid LEVEL logger [request user project] message``, one line a record."""

    def format(self, record: logging.LogRecord) -> str:
        when = dt.datetime.fromtimestamp(record.created, dt.UTC)
        ids = " ".join(filter(None, (global_request_id.get(), request_id.get(), who.get()))) or "-"
        text = mask(record.getMessage())
        line = (
            f"{when:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d} {record.process} "
            f"{record.levelname} {record.name} [{ids}] {text}"
        )
        if record.exc_info:
            line += "\n" + mask(self.formatException(record.exc_info))
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": mask(record.getMessage()),
        }
        for name, var in (
            ("request_id", request_id),
            ("global_request_id", global_request_id),
            ("who", who),
        ):
            if var.get():
                row[name] = var.get()
        if record.exc_info:
            row["exception"] = mask(self.formatException(record.exc_info))
        return json.dumps(row)


def setup(
    *,
    json_lines: bool = False,
    debug: bool = False,
    file: Path | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send the root logger to ``file`` (re-opened when rotated) or to ``stream`` (stderr)."""
    handler: logging.Handler
    if file is not None:
        from logging.handlers import WatchedFileHandler  # noqa: PLC0415

        file.parent.mkdir(parents=True, exist_ok=True)
        handler = WatchedFileHandler(file)
    else:
        handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if json_lines else OsloFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for noisy in ("uvicorn.access", "aio_pika", "aiormq", "urllib3", "pyroute2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
