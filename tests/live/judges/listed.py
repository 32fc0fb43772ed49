"""Run unittest tests of installed packages, each outcome a line of JSON on standard output.

``python listed.py PACKAGE... [--ids FILE] [--tag WORD]``: all tests of the packages, or those a
file names, one id a line, or those with a word among the ones in brackets. Runs with the judges'
interpreter; nothing of ours is imported.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import time
import unittest
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

LONGEST = 2000


def modules(name: str) -> Iterator[ModuleType]:
    """A module, or all test modules of a package."""
    found = importlib.import_module(name)
    if not hasattr(found, "__path__"):
        yield found
        return
    for each in pkgutil.walk_packages(found.__path__, f"{name}."):
        if not each.ispkg and each.name.rpartition(".")[2].startswith("test_"):
            yield importlib.import_module(each.name)


def flat(suite: Any) -> Iterator[Any]:
    """The tests of nested suites."""
    if isinstance(suite, unittest.TestSuite):
        for inner in suite:
            yield from flat(inner)
    else:
        yield suite


class Teller(unittest.TestResult):
    """Says what happened to each test as soon as it is known."""

    def __init__(self, out: Any) -> None:
        super().__init__()
        self._out = out
        self._since = time.monotonic()

    def startTest(self, test: Any) -> None:
        """Remember when it began."""
        super().startTest(test)
        self._since = time.monotonic()

    def _tell(self, test: Any, outcome: str, why: str = "") -> None:
        seconds = round(time.monotonic() - self._since, 2)
        row = {"id": test.id(), "outcome": outcome, "why": why[-LONGEST:], "seconds": seconds}
        print(json.dumps(row), file=self._out, flush=True)

    def _wrong(self, test: Any, err: Any = None, details: Any = None) -> None:
        if err is not None:
            why = f"{err[0].__name__}: {err[1]}"
        else:
            parts = {name: part for name, part in (details or {}).items() if "traceback" in name}
            why = "\n".join(part.as_text() for part in (parts or details or {}).values())
        self._tell(test, "failed", why.strip())

    def addSuccess(self, test: Any, details: Any = None) -> None:
        """It passed."""
        self._tell(test, "passed")

    def addSkip(self, test: Any, reason: Any = None, details: Any = None) -> None:
        """It did not run."""
        said = (details or {}).get("reason")
        self._tell(test, "skipped", said.as_text() if said else str(reason or ""))

    def addExpectedFailure(self, test: Any, err: Any = None, details: Any = None) -> None:
        """Its authors know that it fails."""
        self._tell(test, "skipped", "expected to fail")

    addUnexpectedSuccess = addSuccess
    addFailure = addError = _wrong


def _has(name: str, tag: str) -> bool:
    return not tag or tag in name.partition("[")[2].rstrip("]").split(",")


def main() -> None:
    """Find the tests, run them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--ids", type=Path)
    parser.add_argument("--tag", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    # What tests print must not stand among the rows.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    wanted = set(given.ids.read_text().split()) if given.ids else None
    loader = unittest.TestLoader()
    chosen = unittest.TestSuite(
        test
        for name in given.packages
        for module in modules(name)
        for test in flat(loader.loadTestsFromModule(module))
        if (wanted is None or test.id() in wanted) and _has(test.id(), given.tag)
    )
    chosen.run(Teller(out))


if __name__ == "__main__":
    main()
