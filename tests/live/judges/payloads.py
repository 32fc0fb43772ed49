"""Judge versioned notifications by the payload classes of the installed nova package.

``python payloads.py FILE``: each line of the file is a JSON list of event type, publisher id,
priority and payload. Prints a JSON list of what is wrong. Runs with the judges' interpreter;
nothing of ours is imported.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What nova leaves unset itself: all of it, or these.
LEFT_OUT: dict[str, set[str] | None] = {
    "ImageMetaPropsPayload": None,
    "DestinationPayload": None,
    "RequestSpecPayload": {"image_meta"},
}
PREFIX = "nova_object."


def known() -> tuple[dict[str, Any], dict[str, str]]:
    """Payload name → class, and event type → payload name, of all that nova registers."""
    objects = importlib.import_module("nova.objects")
    package = importlib.import_module("nova.notifications.objects")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    objects.register_all()
    base = importlib.import_module("nova.objects.base")
    classes: dict[str, Any] = {}
    events: dict[str, str] = {}
    for kind in base.NovaObjectRegistry.notification_classes:
        classes[kind.__name__] = kind
        for sample in getattr(kind, "samples", None) or ():
            payload = kind.fields["payload"]._type._obj_name
            events[sample.removesuffix(".json").replace("-", ".")] = payload
    return classes, events


def wrong(classes: dict[str, Any], made: Any, where: str) -> Iterator[str]:
    """What is wrong with a payload, and with those inside it."""
    name = made.get(f"{PREFIX}name")
    kind = classes.get(name)
    if kind is None:
        yield f"{where}: nova has no payload {name}"
        return
    if made.get(f"{PREFIX}namespace") != "nova" or made.get(f"{PREFIX}version") != kind.VERSION:
        yield f"{where}: {name} is not of version {kind.VERSION} in the namespace nova"
    data = made[f"{PREFIX}data"]
    missing = set(kind.fields) - set(data)
    if name in LEFT_OUT:
        allowed = LEFT_OUT[name]
        missing -= missing if allowed is None else allowed
    if missing or set(data) - set(kind.fields):
        yield f"{where}: {name} lacks {sorted(missing)}, has {sorted(set(data) - set(kind.fields))}"
    for key, field in kind.fields.items():
        if key in data:
            yield from _value(classes, field, data[key], f"{where}.{key}")


def _value(classes: dict[str, Any], field: Any, value: Any, where: str) -> Iterator[str]:
    many = value if isinstance(value, list) else [value]
    inside = [each for each in many if isinstance(each, dict) and f"{PREFIX}name" in each]
    if inside:
        for each in inside:
            yield from wrong(classes, each, where)
    elif value is None:
        if not field.nullable:
            yield f"{where} is null"
    elif value not in ([], {}) and not (_fits(field, value) or _fits(field, _as_set(value))):
        yield f"{where}: {value!r} is no {type(field).__name__}"


def _fits(field: Any, value: Any) -> bool:
    try:
        field.coerce(None, "value", value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _as_set(value: Any) -> Any:
    """Sets travel as lists."""
    plain = isinstance(value, list) and all(isinstance(each, int | str) for each in value)
    return set(value) if plain else value


def main() -> None:
    """Judge every line."""
    os.environ.setdefault("OS_NOVA_DISABLE_EVENTLET_PATCHING", "1")
    warnings.simplefilter("ignore")
    classes, events = known()
    found = []
    with Path(sys.argv[1]).open(encoding="utf-8") as lines:
        for line in lines:
            event, publisher, priority, payload = json.loads(line)
            if events.get(event) != payload.get(f"{PREFIX}name"):
                found.append(f"{event} is told with {payload.get(f'{PREFIX}name')}")
            if not publisher.startswith("nova-") or ":" not in publisher:
                found.append(f"{event}: {publisher} is no publisher")
            bad = event.endswith(".error") or event == "compute.exception"
            if priority != ("ERROR" if bad else "INFO"):
                found.append(f"{event} has the priority {priority}")
            found += wrong(classes, payload, event)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
