"""Judge recorded compute traffic by the schemas and status codes of the installed ``nova``.

``python judge.py FILE...`` prints a JSON object: how many exchanges were judged, what was wrong
with which, and which actions answered with success at which span of versions whose answers are
alike. Runs with an interpreter that has the package ``nova``; nothing of ours is imported.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import json
import os
import re
import textwrap
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1")
warnings.simplefilter("ignore")

from nova.api.openstack import api_version_request  # noqa: E402
from nova.api.openstack.compute import routes  # noqa: E402
from nova.api.validation import validators  # noqa: E402

Version = tuple[int, ...]
ANYTIME = {400, 401, 403, 404, 406, 413, 415}
NEWEST = (2, 104)
NAMES = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    501: "notImplemented",
    503: "serviceUnavailable",
}
"""The key of an error's body."""
SCHEMAS: dict[int, Any] = {}
"""Place in memory → schema, which so stays there."""


def number(text: str | None, default: Version) -> Version:
    """``"2.10"`` as something that compares."""
    return tuple(int(word) for word in text.split(".")) if text else default


def rows_of(function: Any, kind: str) -> list[tuple[Version, Version, Any]]:
    """First version, last version and schema of each row of a decorator, as far as 2.1 or later."""
    found: list[tuple[Version, Version, Any]] = []
    for schema, low, high in getattr(getattr(function, kind, None), "_schemas", ()):
        lowest = (2, 1) if low.is_null() else (low.ver_major, low.ver_minor)
        highest = NEWEST if high.is_null() else (high.ver_major, high.ver_minor)
        if highest >= (2, 1):
            found.append((max(lowest, (2, 1)), highest, schema))
    return found


def spanned(function: Any, kind: str, version: Version) -> Any:
    """The schema of a decorator that holds at a version, or None."""
    for low, high, schema in rows_of(function, kind):
        if low <= version <= high:
            return schema
    return None


class Action:
    """One thing that can be asked, and Nova's decorated function for it."""

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        self.function = function
        self.removed = bool(getattr(function, "removed", False))
        self.lowest = number(getattr(function, "min_version", None), (0,))
        self.highest = number(getattr(function, "max_version", None), (9, 999))
        self._refusals = list(_refusals(function))

    def exists(self, version: Version) -> bool:
        """Whether the function is for that version."""
        return self.lowest <= version <= self.highest

    def refusals(self, version: Version) -> set[int]:
        """The status codes it may refuse with."""
        rows = (codes for low, high, codes in self._refusals if low <= version <= high)
        return {code for codes in rows for code in codes}

    def spans(self) -> list[str]:
        """The versions at which its answers are alike: ``2.3-2.8``."""
        rows = [row[:2] for row in rows_of(self.function, "response_body_schemas")]
        return [_span(low, high) for low, high in rows]


def _span(low: Version, high: Version) -> str:
    return f"2.{low[1]}-2.{high[1]}"


def _refusals(function: Any) -> Any:
    """What the decorator ``expected_errors`` says, which keeps it nowhere but in its own text."""
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
        tree = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return
    for each in getattr(tree, "decorator_list", []):
        if isinstance(each, ast.Call) and getattr(each.func, "attr", "") == "expected_errors":
            given = [ast.literal_eval(word) for word in each.args]
            named = {word.arg: ast.literal_eval(word.value) for word in each.keywords}
            codes = given[0] if given else named.get("errors", ())
            low = given[1] if len(given) > 1 else named.get("min_version")
            high = given[2] if len(given) > 2 else named.get("max_version")
            several = codes if isinstance(codes, tuple | list) else (codes,)
            yield number(low, (0,)), number(high, (9, 999)), tuple(several)


class Table:
    """Method, path and action key → action."""

    def __init__(self) -> None:
        self.actions: dict[str, Action] = {}
        self.rows: list[tuple[re.Pattern[str], str, dict[str, Any]]] = []
        listed = sorted(routes.ROUTE_LIST, key=lambda row: (row[0].count("{"), -len(row[0])))
        for path, methods in listed:
            if isinstance(methods, str):
                continue
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", path)
            self.rows.append((re.compile(pattern or "/"), path, methods))
            for method in methods:
                self._add(method, path, methods[method])

    def _add(self, method: str, path: str, row: Any) -> None:
        partial, name = row
        if name != "action":
            plain = f"{method} {path or '/'}"
            self.actions[plain] = Action(plain, getattr(partial.args[0], name))
            return
        for each in (partial.args[0], *partial.args[1]):
            for key, function in each.wsgi_actions.items():
                plain = f"{method} {path} [{key}]"
                self.actions[plain] = Action(plain, getattr(each, function))

    def find(self, method: str, path: str, body: Any) -> Action | None:
        """What answers, or None."""
        for pattern, plain, methods in self.rows:
            if pattern.fullmatch(path):
                name = f"{method} {plain or '/'}"
                if method in methods and methods[method][1] == "action":
                    key = next(iter(body), None) if isinstance(body, dict) else None
                    name += f" [{key}]"
                return self.actions.get(name)
        return None


@functools.cache
def validator(at: int, *, is_body: bool) -> Any:
    """What checks the schema at a place in memory; making one costs more than using it."""
    return validators._SchemaValidator(SCHEMAS[at], False, is_body)


def complaint(schema: Any, value: Any, *, is_body: bool = True) -> str | None:
    """What is wrong with a value."""
    SCHEMAS[id(schema)] = schema
    try:
        validator(id(schema), is_body=is_body).validate(value)
    except Exception as error:
        return str(error)[:300]
    return None


def success_codes(action: Action, version: Version) -> set[int]:
    """What the function may answer when all is well.

    Some functions set their code themselves, past their decorators.
    """
    name = action.name
    if name == "PUT /servers/{server_id}/tags/{id}":
        return {201, 204}
    if name.endswith(("[addFloatingIp]", "[removeFloatingIp]")):
        return {202}
    if name == "POST /servers/{server_id}/os-volume_attachments":
        return {202} if version >= (2, 101) else {200}
    if name == "POST /os-server-external-events":
        return {200, 207}
    declared = getattr(action.function, "wsgi_codes", None)
    rows = declared._codes if declared else [(200, None, None)]
    found = {
        code for code, low, high in rows if number(low, (0,)) <= version <= number(high, (9, 999))
    }
    return found or {200}


class Judge:
    """Judges exchanges and remembers what it has seen."""

    def __init__(self) -> None:
        self.table = Table()
        self.seen: set[str] = set()

    def judge(self, line: dict[str, Any]) -> list[str]:
        """What is wrong with one exchange."""
        heads, status = line["response_headers"], line["status"]
        path = line["path"].rstrip("/").removeprefix("/v2.1") or "/"
        if status in (401, 406) or path.startswith("/ext/"):
            return []
        action = self.table.find(line["method"], path, line["request_body"])
        if action is None:
            return [] if status in (400, 404) else [f"{status} for what Nova does not know"]
        said = heads.get("openstack-api-version", "")
        if not re.fullmatch(r"compute 2\.\d+", said):
            return [f"the header OpenStack-API-Version says {said!r}"]
        version = number(said.split()[1], ())
        wrong = headers(line, said)
        if not action.exists(version):
            wrong += [] if status == 404 else [f"{status} where Nova knows no such thing"]
        elif action.removed:
            refused = {400} if action.name.endswith("[os-getRDPConsole]") else {403, 410}
            wrong += [] if status in refused else [f"{status} for what was removed"]
        elif status >= 400:
            wrong += self.refusal(action, version, line)
        else:
            wrong += self.success(action, version, line)
        return wrong

    def success(self, action: Action, version: Version, line: dict[str, Any]) -> list[str]:
        """What is wrong with an answer that grants."""
        wrong = []
        for refused in refused_by_schemas(action, version, line):
            wrong.append(f"accepted what Nova refuses: {refused}")
        codes = success_codes(action, version)
        if line["status"] not in codes:
            wrong.append(f"success is {sorted(codes)}, not {line['status']}")
        for low, high, schema in rows_of(action.function, "response_body_schemas"):
            if low <= version <= high:
                self.seen.add(f"{action.name} {_span(low, high)}")
                bad = complaint(schema, line["body"])
                wrong += [f"the answer: {bad}"] if bad else []
                break
        return wrong

    def refusal(self, action: Action, version: Version, line: dict[str, Any]) -> list[str]:
        """What is wrong with an answer that refuses."""
        status, body = line["status"], line["body"]
        fault: Any = next(iter(body.values()), {}) if isinstance(body, dict) else {}
        if not isinstance(fault, dict) or fault.get("code") != status or "message" not in fault:
            return [f"no fault of the usual shape: {str(body)[:200]}"]
        wrong = []
        if next(iter(body)) != NAMES.get(status, "computeFault"):
            wrong.append(f"the fault is named {next(iter(body))}")
        if status not in action.refusals(version) | ANYTIME:
            wrong.append(f"status {status}")
        if refused_by_schemas(action, version, line):
            wrong += [] if status in (400, 403, 404) else [f"{status} for what is misshapen"]
        elif fault["message"].startswith("Invalid input for"):
            wrong.append(f"refused what fits Nova's schema: {fault['message'][:200]}")
        return wrong


def headers(line: dict[str, Any], said: str) -> list[str]:
    """What is wrong with the headers of an answer."""
    heads = line["response_headers"]
    wrong = []
    if heads.get("x-openstack-nova-api-version") != said.split()[1]:
        wrong.append("the older version header differs")
    if "openstack-api-version" not in heads.get("vary", "").lower():
        wrong.append(f"Vary is {heads.get('vary')!r}")
    for name in ("x-openstack-request-id", "x-compute-request-id"):
        if not heads.get(name, "").startswith("req-"):
            wrong.append(f"no header {name}")
    if line["body"] is not None and "json" not in heads.get("content-type", ""):
        wrong.append(f"the content type is {heads.get('content-type')!r}")
    return wrong


def refused_by_schemas(action: Action, version: Version, line: dict[str, Any]) -> list[str]:
    """Why Nova's schemas refuse body and query string; empty when they do not."""
    found = []
    body = spanned(action.function, "request_body_schemas", version)
    if body is not None and line["method"] in ("POST", "PUT"):
        found.append(complaint(body, line["request_body"]))
    query = spanned(action.function, "request_query_schemas", version)
    if query is not None and line.get("query"):
        asked = urllib.parse.parse_qs(line["query"], keep_blank_values=True)
        found.append(complaint(query, asked, is_body=False))
    return [text for text in found if text]


def main(files: list[Path]) -> None:
    """Judge files of exchanges."""
    assert api_version_request.max_api_version()
    judge = Judge()
    failures = []
    judged = 0
    for file in files:
        for at, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            line = json.loads(text)
            judged += 1
            asked = f"{file.name}:{at}: {line['method']} {line['path']}"
            failures += [f"{asked}: {what}" for what in judge.judge(line)]
    live = {name: each for name, each in judge.table.actions.items() if not each.removed}
    told = {
        "judged": judged,
        "failures": failures,
        "seen": sorted(judge.seen),
        "all": sorted(f"{name} {span}" for name, each in live.items() for span in each.spans()),
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    main(parser.parse_args().files)
