"""The server sagas under crashes, failures, cancels, repetitions, and deletions at any moment."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import msgspec
import pytest

from kilonova.workflows.engine.runner import Runner
from kilonova.workflows.harness import (
    SCENARIOS,
    Crash,
    Golden,
    Moment,
    Scenario,
    Script,
    explore,
    finish,
    play,
    replay,
    states,
    unplayed,
)
from tests.sagas import imaging, live_scenarios, moves, remaking, resting, scenarios
from tests.sagas.cloud import CELL, CloudStage, opened
from tests.sagas.scenarios import Build, FirstHostBroken, NoHost, Stop

THOROUGH = bool(os.environ.get("KILONOVA_TEST_THOROUGH"))
GOLDEN = Path(__file__).parent / "golden" / "servers"
NAMES = [name for name in SCENARIOS if name.startswith("server ")]


async def test_a_hard_reboot_mends_what_is_attached() -> None:
    kind = scenarios.RebootWithoutVolume
    played = await play(Scenario("mends", "server.reboot", scenarios.stage(kind)))
    assert (played.state, played.audit) == ("done", [])


def test_every_server_saga_is_played() -> None:
    assert scenarios.Build
    assert resting.Suspend
    assert moves.Resize
    assert imaging.CreateImage
    assert live_scenarios.Live
    assert unplayed() == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.timeout(900 if THOROUGH else 120)
async def test_a_server_saga_keeps_every_promise(name: str) -> None:
    """Each moment with ``KILONOVA_TEST_THOROUGH``, some moments of each scenario without."""
    long = "broken" in name or "dies" in name
    every = 1 if THOROUGH else (60 if long else 25 if "build" in name else 6)
    assert await explore(SCENARIOS.get(name), every=every) == []


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json.gz")), ids=lambda f: f.stem)
async def test_server_journals_of_former_releases_still_finish(file: Path) -> None:
    golden = msgspec.json.decode(gzip.decompress(file.read_bytes()), type=Golden)
    assert len(golden.moments) > 2
    chosen = golden.moments if THOROUGH else golden.moments[:: max(1, len(golden.moments) // 6)]
    quick = msgspec.structs.replace(golden, moments=chosen)
    assert await replay(SCENARIOS.get(golden.scenario), quick) == []


async def moments(name: str, step: int) -> list[Moment]:
    """Some moments of a good run."""
    seen = list(dict.fromkeys((await play(SCENARIOS.get(name))).moments))
    return seen if THOROUGH else seen[::step]


async def deleted_at(kind: type[CloudStage], moment: Moment) -> list[str]:
    """What is wrong after the server was deleted at that moment of the saga."""
    async with opened(kind()) as stage:
        await stage.start()  # type: ignore[attr-defined]
        script = Script(crash={moment})
        try:
            await Runner(stage.kit(script)).drain()
        except Crash:
            await stage.delete()
            await finish(stage, Script())
        else:
            return [f"{moment} was not met"]
        problems = await stage.audit()
        end = await stage.outcome()
        if end["mapping"] is None or not end["mapping"][1]:
            problems.append(f"still there: {end['mapping']}")
        if end["quota"]["instances"] or end["holds"] or any(end["guests"].values()):
            problems.append(f"left: {end}")
        if any(end.get("aside", {}).values()) or any(end.get("held", ())):
            problems.append(f"a move left: {end}")
        living = [s for s in await states(stage.databases) if s[1] not in ("done", "cancelled")]
        problems += [f"saga {name} is {state}" for name, state in living]
        return [f"deleted at {' '.join(moment)}: {p}" for p in problems]


@pytest.mark.parametrize(
    ("name", "kind", "step"),
    [
        ("server build", Build, 8),
        ("server build, first host broken", FirstHostBroken, 23),
        ("server stop", Stop, 1),
        ("server migrate", moves.Migrate, 9),
        ("server resize on the same host", moves.ResizeHere, 19),
        ("server revert a resize", moves.Revert, 9),
        ("server confirm a resize", moves.Confirm, 7),
        ("server suspend", resting.Suspend, 1),
        ("server resume", resting.Resume, 1),
        ("server create an image", imaging.CreateImage, 2),
        ("server rebuild", remaking.Rebuild, 2),
        ("server rebuild of a root volume", remaking.Reimaged, 4),
        ("server rescue", remaking.Rescue, 2),
        ("server unrescue", remaking.Unrescue, 2),
        ("server new password", remaking.ChangePassword, 2),
    ],
)
@pytest.mark.timeout(600)
async def test_a_server_can_be_deleted_at_any_moment(
    name: str, kind: type[CloudStage], step: int
) -> None:
    problems = []
    for moment in await moments(name, step):
        if moment != ("ended", "") or name == "server build":
            problems += await deleted_at(kind, moment)
    assert problems == []


async def test_a_build_is_not_cancelled_after_its_server_is_active() -> None:
    """The deletion waits, then ends a whole server."""
    async with opened(Build()) as stage:
        await stage.start()
        with pytest.raises(Crash):
            await Runner(stage.kit(Script(crash={("effect", "finish_build")}))).drain()
        await stage.api.run(stage.accept_delete)
        await finish(stage, Script())
        assert await states(stage.databases) == [
            ("server.build", "done"),
            ("server.delete", "done"),
        ]
        assert await stage.audit() == []
        assert (await stage.outcome())["server"][CELL]["states"][0] == "deleted"


async def test_a_failed_build_tells_its_owner_why() -> None:
    async with opened(NoHost()) as stage:
        await stage.start()
        await finish(stage, Script())
        end = await stage.outcome()
    (buried,) = end["server"].values()
    assert buried["states"] == ["error", None, 0, False]
    assert buried["fault"].startswith("No valid host was found.")
    assert end["quota"]["instances"] == 1
