"""Small words for building and reading libvirt's XML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

Element = ElementTree.Element

# What XML 1.0 cannot hold in any form.
_IMPOSSIBLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(tag: str, *parts: Element | str | None, **attributes: str | int | None) -> Element:
    """An element with attributes (None: left out; ``type_`` means ``type``), children and text."""
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.removesuffix("_"), clean(str(value)))
    for part in parts:
        if isinstance(part, str):
            made.text = clean(part)
        elif part is not None:
            made.append(part)
    return made


def clean(text: str) -> str:
    """The text without what XML cannot hold."""
    return _IMPOSSIBLE.sub("�", text)


def group(tag: str, parts: Iterable[Element], **attributes: str | int | None) -> Element:
    """An element around any number of others."""
    return element(tag, *parts, **attributes)


def text(root: Element) -> str:
    """As libvirt takes it."""
    return ElementTree.tostring(root, encoding="unicode")


def read(document: str) -> Element:
    """What libvirt wrote (it is trusted)."""
    return ElementTree.fromstring(document)


def number(value: str | None) -> int:
    """An attribute that should be a number; 0 when it is none."""
    return int(value) if value is not None and value.isdecimal() else 0
