"""Run the judges' suites whole and add what passes to their lists.

``python -m tests.live.judges.learn [SUITE...]``, as root, with ``.venv-judge`` made by
``scripts/setup``. A test that passes twice in a row joins the list; none ever leaves it here. What
fails is told beside it, with its last words. ``walk`` is the walk through the Compute API and the
list of what it saw.
"""

from __future__ import annotations

import collections
import sys
import tempfile
from pathlib import Path

from tests.live.judges import suites, walking
from tests.support import running

SECONDS = 4 * 3600.0


def _learn(suite: suites.Suite, cloud: running.Running, where: Path) -> None:
    def tell(outcome: suites.Outcome) -> None:
        if outcome.outcome == "failed":
            print(f"failed {outcome.seconds:6.1f} s  {outcome.id}\n    {outcome.last}", flush=True)

    rounds: list[set[str]] = []
    failed: dict[str, str] = {}
    for number in range(2):
        room = where / f"{suite.name}-{number}"
        room.mkdir()
        chosen = sorted(rounds[0]) if rounds else None
        outcomes = suites.run(cloud, suite, room, ids=chosen, seconds=SECONDS, tell=tell)
        rounds.append({each.id for each in outcomes if each.outcome == "passed"})
        failed |= {each.id: each.last for each in outcomes if each.outcome == "failed"}
        print(suite.name, dict(collections.Counter(each.outcome for each in outcomes)))
    suite.keep(rounds[0] & rounds[1], failed)


def _walk(where: Path) -> None:
    surprises, verdict = walking.walk(where)
    print(walking.figures(verdict))
    print("\n".join([*surprises, *verdict["failures"]]))
    before = walking.SEEN.read_text().splitlines() if walking.SEEN.exists() else []
    seen = sorted({*before, *verdict["seen"]})
    walking.SEEN.write_text("".join(f"{name}\n" for name in seen))
    rows = walking.UNSEEN.read_text().splitlines() if walking.UNSEEN.exists() else []
    whys = dict(row.split("\t", 1) for row in rows)
    left = sorted(set(verdict["all"]) - set(seen))
    walking.UNSEEN.write_text("".join(f"{name}\t{whys.get(name, '')}\n" for name in left))


def main() -> None:
    """Start a cloud for each suite, and learn."""
    known = suites.by_name()
    for name in sys.argv[1:] or [*known, "walk"]:
        if name == "walk":
            with tempfile.TemporaryDirectory(prefix="kilonova-judges-") as home:
                _walk(Path(home))
            continue
        suite = known[name]
        with tempfile.TemporaryDirectory(prefix="kilonova-judges-") as home:
            where = Path(home)
            with running.running(where / "state", port_base=21300) as cloud:
                suite.start(cloud, where)
                _learn(suite, cloud, where)


if __name__ == "__main__":
    main()
