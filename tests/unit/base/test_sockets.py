"""Unix sockets below long directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.base import sockets


async def test_a_long_path(tmp_path: Path) -> None:
    place = tmp_path / ("d" * 120)
    place.mkdir()
    path = place / "s"
    with pytest.raises(FileNotFoundError):
        await sockets.connect(path)
    with (
        sockets.listen(path) as listening,
        await sockets.connect(path) as ours,
        listening.accept()[0] as theirs,
    ):
        ours.send(b"x")
        assert theirs.recv(1) == b"x"
    with sockets.listen(path):
        assert path.is_socket()
