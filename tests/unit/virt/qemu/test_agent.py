from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.base.errors import Conflict, NotSupported, Unavailable
from kilonova.virt.qemu import agent
from tests.support.guest_agent import GuestAgent, listening


async def test_a_password_is_set(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    noise = b'{"return": 7}\n\xff{"return": 8}\nrubbish'
    async with listening(place, GuestAgent(noise=noise)) as inside:
        await agent.set_password(place, "root", "päss\n'\"")
    assert inside.passwords == {"root": "päss\n'\""}


async def test_an_agent_that_refuses(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    async with listening(place, GuestAgent(refuses="no such user")):
        with pytest.raises(Conflict, match="error setting admin password"):
            await agent.set_password(place, "nobody", "secret")


async def test_nobody_answers(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    with pytest.raises(NotSupported):
        await agent.set_password(place, "root", "secret")

    class Deaf(GuestAgent):
        def answer(self, asked: object) -> bytes:
            return b""

    async with listening(place, Deaf()):
        with pytest.raises(NotSupported):
            await agent.set_password(place, "root", "secret", sync_seconds=0.2)


async def test_file_systems_stand_still_and_go_on(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    async with listening(place, GuestAgent()) as inside:
        await agent.freeze(place)
        assert inside.frozen
        await agent.thaw(place)
        assert not inside.frozen


async def test_file_systems_of_a_guest_that_refuses_or_is_silent(tmp_path: Path) -> None:
    place = tmp_path / "agent.sock"
    async with listening(place, GuestAgent(refuses="busy")):
        with pytest.raises(Conflict, match="busy"):
            await agent.freeze(place)
    with pytest.raises(Unavailable):
        await agent.freeze(place)
