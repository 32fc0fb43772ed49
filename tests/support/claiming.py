"""A process that claims units of providers as fast as it can; run by the concurrency tests."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Conflict
from kilonova.db.database import Database
from kilonova.placement.store.allocations import Claim, release, replace


def main(url: str, mode: str, writers: int, tries: int, providers: list[str]) -> None:
    """Print how many tries came through and how many were refused.

    ``race``: new consumers take a unit of one provider or of all. ``churn``: a consumer takes a
    unit, moves it to the next provider, and every other one gives it back.
    """
    db = Database(url, size=writers, retries=40)
    work = {"race": _race, "churn": _churn}[mode](db, providers)

    def one(number: int) -> bool:
        try:
            work(number)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(writers) as threads:
        results = list(threads.map(one, range(tries)))
    db.close()
    print(sum(results), len(results) - sum(results))


def _claim(db: Database, consumer: str, providers: list[str], generation: int | None) -> None:
    resources = {provider: {"VCPU": 1} for provider in providers}
    claim = Claim(consumer, resources, "project", "user", generation, "INSTANCE")
    db.run_sync(replace, [claim], SystemClock().now())


def _race(db: Database, providers: list[str]) -> Callable[[int], None]:
    def work(number: int) -> None:
        wanted = [providers[number % len(providers)]]
        _claim(db, str(uuid.uuid4()), providers[::-1] if number % 2 else wanted, None)

    return work


def _churn(db: Database, providers: list[str]) -> Callable[[int], None]:
    def work(number: int) -> None:
        consumer = str(uuid.uuid4())
        _claim(db, consumer, [providers[number % len(providers)]], None)
        _claim(db, consumer, [providers[(number + 1) % len(providers)]], 1)
        if number % 2:
            db.run_sync(release, consumer)

    return work


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
