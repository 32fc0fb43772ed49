"""Explanations as people read them."""

from __future__ import annotations

import datetime as dt
import io

from rich.console import Console

from kilonova.api.explain import render
from kilonova.cmd.explain import tree
from kilonova.domain.explain import Change, Why
from kilonova.domain.explanation import Explanation, Failure
from kilonova.domain.request import Cut
from kilonova.domain.whynot import Constraint, Obstacle, WhyNot


def told(*, hosts: bool) -> str:
    change = Change("room", "900 more MiB of memory free on one host.", "operator", host="h7")
    short = Obstacle(
        Constraint.CAPACITY, names=("MEMORY_MB",), asked=5000, most=4100, removed=2, roots=("u1",)
    )
    one = Explanation(
        "req-1",
        "s1",
        "p1",
        "u1",
        dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC),
        cuts=(Cut("ComputeFilter", 12, 0, {f"h{n}": "its service is down" for n in range(12)}),),
        why=Why("No host [has] room.", ("resource:MEMORY_MB",), WhyNot(3, 1, (short,)), (change,)),
        failures=(Failure("h9", "The disk is full."),),
    )
    shown = io.StringIO()
    Console(width=120, file=shown).print(tree(render(one, hosts=hosts)))
    return shown.getvalue()


def test_for_operators() -> None:
    text = told(hosts=True)
    for part in (
        "No host [has] room.",
        "900 more MiB of memory free on one host. (h7)",
        "Placement left 1 of 3 providers",
        "capacity MEMORY_MB: asked 5000, at most 4100 in one place – left out 2",
        "ComputeFilter left 0 of 12",
        "h0: its service is down",
        "and 2 more",
        "h9: The disk is full.",
    ):
        assert part in text


def test_without_hosts() -> None:
    text = told(hosts=False)
    assert "ComputeFilter left 0 of 12" in text
    assert not any(f"h{n}" in text for n in range(12))
