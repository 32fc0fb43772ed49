"""Whether a daemon lives, and what zone an aggregate makes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from kilonova.domain.resources import Aggregate, Service
from tests.support.compute import NOW

SOON = NOW + dt.timedelta(seconds=60)


def service(**values: Any) -> Service:
    facts = dict.fromkeys(Service.__struct_fields__)
    return Service(**{**facts, "created_at": NOW, "forced_down": False, **values})


def test_a_service_lives_while_it_gives_signs() -> None:
    assert service(last_seen_up=NOW).is_up(SOON, 60)
    assert not service(last_seen_up=NOW).is_up(SOON, 59)
    assert not service(last_seen_up=NOW, forced_down=True).is_up(NOW, 60)
    # A clock that is ahead of ours by too much is no better than silence.
    assert not service(last_seen_up=SOON).is_up(NOW, 59)


def test_a_new_service_counts_from_its_making() -> None:
    assert service().is_up(SOON, 60)
    assert not service().is_up(SOON, 59)


def test_the_zone_of_an_aggregate() -> None:
    facts = dict.fromkeys(Aggregate.__struct_fields__)
    assert Aggregate(**{**facts, "metadata": {"availability_zone": "az1"}}).zone == "az1"
    assert Aggregate(**{**facts, "metadata": {}}).zone is None
