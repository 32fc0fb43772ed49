"""What the hosts of a guest that moves tell each other."""

from __future__ import annotations

from kilonova.domain.live import LiveProgress


def test_counters_have_the_names_users_know() -> None:
    seen = LiveProgress(10, 6, 4, 100, 30, 70)
    assert seen.counters == {
        "memory_total_bytes": 10,
        "memory_processed_bytes": 6,
        "memory_remaining_bytes": 4,
        "disk_total_bytes": 100,
        "disk_processed_bytes": 30,
        "disk_remaining_bytes": 70,
    }
