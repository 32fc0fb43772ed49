"""A process that claims units of one provider as fast as it can; run by the concurrency tests."""

from __future__ import annotations

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from kilonova.base.clock import SystemClock
from kilonova.base.errors import Conflict
from kilonova.db.database import Database
from kilonova.placement.store.allocations import Claim, replace


def main(url: str, writers: int, tries: int, providers: list[str]) -> None:
    """Print how many claims were accepted and how many refused."""
    db = Database(url, size=writers, retries=40)
    clock = SystemClock()

    def one(number: int) -> bool:
        resources = {providers[number % len(providers)]: {"VCPU": 1}}
        if number % 2:
            resources = {p: {"VCPU": 1} for p in reversed(providers)}
        claim = Claim(str(uuid.uuid4()), resources, "project", "user", None, "INSTANCE")
        try:
            db.run_sync(replace, [claim], clock.now())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(writers) as threads:
        results = list(threads.map(one, range(tries)))
    db.close()
    print(sum(results), len(results) - sum(results))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
