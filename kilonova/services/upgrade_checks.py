"""``upgrade check``: run the checks of a service and print what they found."""

from __future__ import annotations

import asyncio
import enum
import json
import sys
import textwrap
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from oslo_config import cfg

from kilonova.services import startup
from kilonova.services.daemon import SAID, Daemon
from kilonova.services.startup import Asked, Unconfigured

WIDTH = 72


class Code(enum.IntEnum):
    """How a check ended; the largest is the command's exit code."""

    SUCCESS = 0
    WARNING = 1
    FAILURE = 2


class Result(msgspec.Struct, frozen=True):
    """What a check found, and what to do about it."""

    code: Code
    details: str = ""


Check = tuple[str, Callable[[Daemon], Awaitable[Result]]]


def run(name: str, asked: Asked, checks: Sequence[Check], *, as_json: bool) -> int:
    """Run every check and print the table; 255 when something unexpected happened."""
    try:
        settings = startup.read_settings(asked)
        startup.log_to(settings, name)
        results = asyncio.run(_run(Daemon(name, asked, settings), checks))
    except (cfg.Error, *SAID) as error:
        startup.fail(name, startup.text_of(error))
        return 255
    except Exception as error:
        print(f"{name}: Unexpected error: {error!r}", file=sys.stderr)
        return 255
    print(_json(results) if as_json else _table(results))
    return max((int(result.code) for _, result in results), default=0)


async def _run(context: Daemon, checks: Sequence[Check]) -> list[tuple[str, Result]]:
    results = []
    async with context.stack:
        context.stack.push_async_callback(context.http.close)
        for title, check in checks:
            try:
                results.append((title, await check(context)))
            except Unconfigured as error:
                results.append((title, Result(Code.FAILURE, str(error))))
    return results


def _table(results: Sequence[tuple[str, Result]]) -> str:
    cells: list[list[str]] = []
    for title, result in results:
        lines = [f"Check: {title}", f"Result: {result.code.name.capitalize()}"]
        if result.details:
            lines += textwrap.wrap(f"Details: {result.details}", WIDTH, subsequent_indent="  ")
        cells.append(lines)
    head = "Upgrade Check Results"
    width = max(len(line) for lines in [[head], *cells] for line in lines)
    rule = f"+{'-' * (width + 2)}+"
    rows = [rule, f"| {head:<{width}} |", rule]
    for lines in cells:
        rows += [f"| {line:<{width}} |" for line in lines] + [rule]
    return "\n".join(rows)


def _json(results: Sequence[tuple[str, Result]]) -> str:
    rows = [
        {"check": title, "result": int(result.code), "details": result.details or None}
        for title, result in results
    ]
    return json.dumps({"name": "Upgrade Check Results", "checks": rows})
