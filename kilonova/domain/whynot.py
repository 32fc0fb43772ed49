"""Why a search for allocation candidates left providers out, as data."""

from __future__ import annotations

import enum

import msgspec


class Constraint(enum.StrEnum):
    """What a request for candidates demands, and can fail by."""

    RESOURCE = "resource"
    """Nobody there has an inventory of the class."""
    UNIT = "unit"
    """The amount breaks ``min_unit``, ``max_unit`` or ``step_size``."""
    CAPACITY = "capacity"
    """Too little of the class is free in one place."""
    REQUIRED_TRAIT = "required_trait"
    FORBIDDEN_TRAIT = "forbidden_trait"
    MEMBER_OF = "member_of"
    FORBIDDEN_AGGREGATE = "forbidden_aggregate"
    IN_TREE = "in_tree"
    ROOT_REQUIRED = "root_required"
    ROOT_FORBIDDEN = "root_forbidden"
    ISOLATE = "isolate"
    """``group_policy=isolate``: the groups would have to share a provider."""
    SAME_SUBTREE = "same_subtree"
    TOGETHER = "together"
    """Every group fits on its own, all of them together do not."""


class Obstacle(msgspec.Struct, frozen=True):
    """One constraint of the request, and the trees it stands in the way of.

    A tree is a host with what hangs below it and what shares with it. ``group`` is the suffix of
    the request group ("" for the one without). ``names`` is the resource class, the traits or
    aggregates of which one was required (for forbidden ones: the one that is forbidden), the
    provider of ``in_tree``, or the suffixes of ``same_subtree``.

    ``removed`` counts the trees that failed here first, in the order of the obstacles: with
    ``WhyNot.left`` they add up to ``WhyNot.trees``. ``roots`` are the roots (20 uuids at most) of
    trees that would serve the request if only this constraint were dropped (amounts: made as small
    as need be), so empty means that dropping it alone does not help.

    For amounts: ``asked``; ``most``, the largest portion that any provider of the cloud could give
    now (of UNIT: by its units, whatever is free); and ``fits``, the amount nearest to ``asked``
    with which there are candidates, all else unchanged (None: there is no such amount).
    """

    constraint: Constraint
    group: str = ""
    names: tuple[str, ...] = ()
    asked: int | None = None
    most: int | None = None
    fits: int | None = None
    removed: int = 0
    roots: tuple[str, ...] = ()

    @property
    def would_help(self) -> bool:
        """Whether dropping this constraint alone, or asking for ``fits``, gives candidates."""
        return bool(self.roots)


class WhyNot(msgspec.Struct, frozen=True):
    """What became of every tree of the cloud: ``left`` of ``trees`` have candidates.

    ``obstacles`` are in the order they are tried in; those that removed nothing and would help
    nobody are left out.
    """

    trees: int
    left: int
    obstacles: tuple[Obstacle, ...] = ()
