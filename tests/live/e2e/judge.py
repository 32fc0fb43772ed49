"""Judge recorded compute traffic by the schemas and status codes of the installed ``nova``.

``python judge.py FILE``: prints a JSON object with how many exchanges were judged and what was
wrong with which. Runs with an interpreter that has the package ``nova``; nothing of ours is
imported.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1")
warnings.simplefilter("ignore")

from nova.api.openstack import api_version_request  # noqa: E402
from nova.api.openstack.compute import routes  # noqa: E402
from nova.api.validation import validators  # noqa: E402

Version = tuple[int, ...]
ANYTIME = {400, 401, 403, 404, 406, 409, 413, 415}


def number(text: str | None, default: Version) -> Version:
    """``"2.10"`` as something that compares."""
    return tuple(int(word) for word in text.split(".")) if text else default


def spanned(rows: Any, version: Version) -> Any:
    """The schema of a decorator that holds at a version, or None."""
    for schema, low, high in getattr(rows, "_schemas", ()):
        lowest = (low.ver_major, low.ver_minor) if not low.is_null() else (0,)
        highest = (high.ver_major, high.ver_minor) if not high.is_null() else (9, 999)
        if lowest <= version <= highest:
            return schema
    return None


class Table:
    """Method, path and action key → Nova's decorated function."""

    def __init__(self) -> None:
        self.rows: list[tuple[re.Pattern[str], dict[str, Any]]] = []
        listed = sorted(routes.ROUTE_LIST, key=lambda row: (row[0].count("{"), -len(row[0])))
        for path, methods in listed:
            if not isinstance(methods, str):
                pattern = re.sub(r"\{[^}]+\}", "[^/]+", path)
                self.rows.append((re.compile(pattern or "/"), methods))

    def find(self, method: str, path: str, body: Any) -> Any:
        """The function that answers, or None."""
        for pattern, methods in self.rows:
            if not pattern.fullmatch(path):
                continue
            if method not in methods:
                return None
            partial, name = methods[method]
            controller, more = partial.args[0], partial.args[1]
            if name != "action":
                return getattr(controller, name)
            key = next(iter(body), None) if isinstance(body, dict) else None
            for each in (controller, *more):
                if key in each.wsgi_actions:
                    return getattr(each, each.wsgi_actions[key])
            return None
        return None


def complaint(schema: Any, value: Any) -> str | None:
    """What is wrong with a value."""
    try:
        validators._SchemaValidator(schema, False, True).validate(value)
    except Exception as error:
        return str(error)[:300]
    return None


def success_codes(function: Any, version: Version) -> set[int]:
    """What the function may answer when all is well."""
    declared = getattr(function, "wsgi_codes", None)
    rows = declared._codes if declared else [(200, None, None)]
    found = {
        code for code, low, high in rows if number(low, (0,)) <= version <= number(high, (9, 999))
    }
    return found | {201, 204} if "tags" in function.__module__ else found or {200}


def judge(table: Table, line: dict[str, Any]) -> list[str]:
    """What is wrong with one exchange."""
    heads, status = line["response_headers"], line["status"]
    path = line["path"].rstrip("/").removeprefix("/v2.1") or "/"
    said = heads.get("openstack-api-version", "")
    if status in (401, 406):
        return []
    function = table.find(line["method"], path, line["request_body"])
    if function is None:
        return [] if status in (400, 404) else [f"{status} for what Nova does not know"]
    wrong = []
    if not re.fullmatch(r"compute 2\.\d+", said):
        return [f"the header OpenStack-API-Version says {said!r}"]
    version = number(said.split()[1], ())
    if heads.get("x-openstack-nova-api-version") != said.split()[1]:
        wrong.append("the older version header differs")
    for name in ("x-openstack-request-id", "x-compute-request-id"):
        if not heads.get(name, "").startswith("req-"):
            wrong.append(f"no header {name}")
    lowest = number(getattr(function, "min_version", None), (0,))
    highest = number(getattr(function, "max_version", None), (9, 999))
    if not lowest <= version <= highest:
        return [*wrong, *([] if status == 404 else [f"{status} where Nova knows no such thing"])]
    return wrong + content(function, version, line)


def content(function: Any, version: Version, line: dict[str, Any]) -> list[str]:
    """What is wrong with status and bodies."""
    status, body = line["status"], line["body"]
    if status >= 500 or (status >= 400 and status not in ANYTIME | {410}):
        return [f"status {status}"]
    if status >= 400:
        fault = next(iter(body.values()), {}) if isinstance(body, dict) else {}
        right = isinstance(fault, dict) and fault.get("code") == status
        return [] if right else [f"no fault of the usual shape: {str(body)[:200]}"]
    wrong = []
    schema = spanned(getattr(function, "request_body_schemas", None), version)
    refused = complaint(schema, line["request_body"]) if schema else None
    wrong += [f"accepted what Nova refuses: {refused}"] if refused else []
    codes = success_codes(function, version)
    if status not in codes and not getattr(function, "removed", False):
        wrong.append(f"success is {sorted(codes)}, not {status}")
    schema = spanned(getattr(function, "response_body_schemas", None), version)
    bad = complaint(schema, body) if schema else None
    return wrong + ([f"the answer: {bad}"] if bad else [])


def main(file: Path) -> None:
    """Judge a file of exchanges."""
    assert api_version_request.max_api_version()
    table = Table()
    failures = []
    lines = file.read_text(encoding="utf-8").splitlines()
    for at, text in enumerate(lines, 1):
        line = json.loads(text)
        failures += [
            f"{at}: {line['method']} {line['path']}: {what}" for what in judge(table, line)
        ]
    print(json.dumps({"judged": len(lines), "failures": failures}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
