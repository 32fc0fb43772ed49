"""Fuzz a fresh cloud of simulated hosts: ``python -m tests.live.fuzz --minutes 10 [SERVICE …]``.

The cloud stands in a network namespace of its own (which needs root). Exits with 1 when an answer
was a 500 or not in the service's OpenAPI document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import namespace
from tests.support.running import ROOT, running

QUOTA = "[quota]\ninstances = -1\ncores = -1\nram = -1\n"


def fuzz(
    folder: Path, seconds: int, services: Sequence[str] = (), *, port_base: int = 22000
) -> list[dict[str, Any]]:
    """The runs, each with its ``failures``; documents and reports stay in ``folder``."""
    state = folder / "state"
    state.mkdir(parents=True)
    (state / "kilonova.conf").write_text(QUOTA)
    with running(state, port_base=port_base) as cloud:
        cloud.up("--driver", "fake", "--hosts", "3")
        done = cloud.space.run(
            *(sys.executable, "-m", "tests.support.fuzzing", str(state / "clouds.yaml")),
            *(str(folder / "reports"), str(seconds), *services),
            env={"PYTHONPATH": str(ROOT)},
            seconds=seconds * 3 + 600,
        )
        (folder / "kilonova.log").write_text(cloud.log())
    runs: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])["runs"]
    return runs


def told(runs: Sequence[dict[str, Any]]) -> str:
    """What was found, each kind once."""
    lines = []
    for run in runs:
        lines.append(f"{run['name']}: {run['requests']} requests in {run['seconds']} s")
        kinds: Counter[tuple[str, str, str]] = Counter()
        shown: dict[tuple[str, str, str], dict[str, Any]] = {}
        for failure in run["failures"]:
            kind = (failure["label"], failure["title"], failure["message"][:80])
            kinds[kind] += 1
            shown.setdefault(kind, failure)
        for kind, count in kinds.items():
            one = shown[kind]
            lines.append(f"  {one['label']}: {one['title']} ({count} times)")
            lines += [f"      {one[part]}" for part in ("message", "request", "response")]
    return "\n".join(lines)


def main() -> None:
    """Fuzz for the minutes asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.live.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="10 by default")
    parser.add_argument("--folder", type=Path, help="keep documents and reports here")
    parser.add_argument("--port-base", type=int, default=22000)
    parser.add_argument("service", nargs="*", help="compute, compute-104, placement, image …")
    asked = parser.parse_args()
    why = namespace.possible()
    if why is not None:
        parser.error(why)
    with tempfile.TemporaryDirectory(prefix="kilonova-fuzz-") as made:
        folder = asked.folder or Path(made)
        runs = fuzz(folder, int(asked.minutes * 60), asked.service, port_base=asked.port_base)
        print(told(runs))
    sys.exit(1 if any(run["failures"] for run in runs) else 0)


if __name__ == "__main__":
    main()
