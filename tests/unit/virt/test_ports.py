from __future__ import annotations

import socket

import pytest

from kilonova.base.errors import Unavailable
from kilonova.virt import ports


def test_the_wish_is_granted_when_it_is_free() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = int(busy.getsockname()[1])
        span = f"{port}:{port}"
        with pytest.raises(Unavailable, match="Every port"):
            ports.choose("k", span, (), port)
    assert ports.choose("k", "1:1", (), port) == port
    with pytest.raises(Unavailable):
        ports.choose("k", span, {port})


def test_the_same_key_gets_the_same_port() -> None:
    first = ports.choose("key", "40000:49999", ())
    assert ports.choose("key", "40000:49999", ()) == first
    assert ports.choose("key", "40000:49999", {first}) != first
