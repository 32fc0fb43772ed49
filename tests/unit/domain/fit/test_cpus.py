"""CPU lists, and which threads a guest gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kilonova.domain.fit.cpus import parse, pick
from kilonova.domain.fit.shapes import HostCell

PAIRS = tuple(frozenset({n, n + 4}) for n in range(4))


def cell(pinned: tuple[int, ...] = (), siblings: tuple[frozenset[int], ...] = PAIRS) -> HostCell:
    return HostCell(0, 1024, pcpus=frozenset(range(8)), siblings=siblings, pinned=frozenset(pinned))


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3", {0, 1, 2, 3}),
        ("0,2", {0, 2}),
        ("0-3,^2", {0, 1, 3}),
        ("^1", {0, 2, 3}),
        ("^0-2", {3}),
        ("", set()),
        (" 1 , 3-3 ", {1, 3}),
    ],
)
def test_lists(text: str, cpus: set[int]) -> None:
    assert parse(text, of=range(4)) == cpus


@pytest.mark.parametrize("text", ["x", "^", "1-", "3-1", "-1", "1--2"])
def test_no_lists(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no CPU|ends before"):
        parse(text, of=range(4))


@pytest.mark.parametrize(
    ("threads", "pinned", "most"),
    [
        (None, (), 8),
        ("prefer", (0, 1), 6),
        ("prefer", (0, 1, 2, 3), 4),
        ("require", (), 8),
        ("require", (0,), 6),
        ("require", (0, 1), 4),
        ("require", (0, 1, 2, 3), 0),
        ("isolate", (), 0),
    ],
)
def test_how_many_fit_on_cores_of_two_threads(
    threads: str | None, pinned: tuple[int, ...], most: int
) -> None:
    able = [n for n in range(1, 9) if pick(cell(pinned), n, threads) is not None]
    assert able == list(range(1, most + 1))


@pytest.mark.parametrize("siblings", [(), tuple(frozenset({n}) for n in range(8))])
def test_single_threads(siblings: tuple[frozenset[int], ...]) -> None:
    plain = cell(siblings=siblings)
    assert pick(plain, 8, "isolate") is not None
    assert pick(plain, 8, "prefer") is not None
    assert pick(plain, 9, "prefer") is None
    assert pick(plain, 1, "require") is None


def test_siblings_stay_together() -> None:
    assert pick(cell(), 2, "prefer") == ([0, 4], frozenset())
    assert pick(cell((0,)), 1, None) == ([4], frozenset())
    assert pick(cell((0,)), 2, "require") == ([1, 5], frozenset())
    assert pick(cell(), 3, None, reserve=1) == ([0, 4, 1], frozenset({5}))
    assert pick(cell(), 8, None, reserve=1) is None


@given(
    st.frozensets(st.integers(0, 7)),
    st.integers(0, 8),
    st.integers(0, 1),
    st.sampled_from([None, "prefer", "require", "isolate"]),
    st.sampled_from([PAIRS, (), (frozenset(range(8)),), (frozenset({0, 1, 2}), frozenset({3, 4}))]),
)
def test_only_free_threads_and_all_of_them(
    pinned: frozenset[int],
    count: int,
    reserve: int,
    threads: str | None,
    siblings: tuple[frozenset[int], ...],
) -> None:
    host = cell(tuple(pinned), siblings)
    picked = pick(host, count, threads, reserve=reserve)
    free = host.free_pcpus
    if picked is None:
        if threads in (None, "prefer"):
            assert len(free) < count + reserve
        return
    chosen, kept = picked
    assert len(set(chosen)) == count
    assert len(kept) == reserve
    assert not kept & set(chosen)
    assert {*chosen, *kept} <= free
    if threads == "require":
        assert all(any(cpu in s and len(s & free) > 1 for s in siblings) for cpu in chosen)
