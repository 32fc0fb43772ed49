"""Quota: names of what is limited, whose limits count, and the words of a refusal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec

from kilonova.base.errors import Forbidden

DB = "nova.quota.DbQuotaDriver"
NOOP = "nova.quota.NoopQuotaDriver"
UNIFIED = "nova.quota.UnifiedLimitsDriver"
DRIVERS = (DB, NOOP, UNIFIED)

UNLIMITED = -1

# Name in the API → name of the limit that the identity service keeps.
PLACED = {"instances": "servers", "cores": "class:VCPU", "ram": "class:MEMORY_MB"}
LOCAL = {
    "metadata_items": "server_metadata_items",
    "injected_files": "server_injected_files",
    "injected_file_content_bytes": "server_injected_file_content_bytes",
    "injected_file_path_bytes": "server_injected_file_path_bytes",
    "key_pairs": "server_key_pairs",
    "server_groups": "server_groups",
    "server_group_members": "server_group_members",
}
# Limits that the network service keeps itself; old versions of the API name them.
NETWORK = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")


class OverQuota(Forbidden):
    """More was asked for than a limit allows."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="quota.exceeded")


class Counted(msgspec.Struct, frozen=True):
    """What Placement said a project (and the user) hold, by resource class.

    Servers in ``pending`` and those made at ``since`` or later may be missing from it.
    """

    project: dict[str, int]
    user: dict[str, int]
    since: dt.datetime
    pending: frozenset[str] = frozenset()


class Rules(msgspec.Struct, frozen=True):
    """Whose limits count for one project. ``defaults``: name in the API → configured limit.

    Of the unified limits ``registered`` are the defaults and ``own`` the project's. With the
    ``strategy`` ``require`` a resource without any is limited to 0 if ``listed``, else not at all;
    with ``ignore`` it is the other way round.
    """

    driver: str
    defaults: dict[str, int]
    registered: dict[str, int] = {}
    own: dict[str, int] = {}
    listed: frozenset[str] = frozenset({"servers"})
    strategy: str = "require"
    pcpu_as_vcpu: bool = False
    counted: Counted | None = None

    @property
    def stored(self) -> bool:
        """Limits are rows of our database."""
        return self.driver == DB

    @property
    def unified(self) -> bool:
        """Limits are kept by the identity service."""
        return self.driver == UNIFIED

    def limit(self, name: str) -> int:
        """The unified limit ``name`` of the project, as it is enforced; -1 for none."""
        found = self.own.get(name, self.registered.get(name))
        if found is not None:
            return max(found, UNLIMITED)
        missing = (name in self.listed) == (self.strategy == "require")
        return 0 if missing else UNLIMITED

    def elsewhere(self, *, shown: bool = False) -> dict[str, int]:
        """Name in the API → limit, for drivers that keep none in our database.

        ``shown``: as the API tells them, where a unified limit that is not set is 0.
        """
        found = dict.fromkeys(self.defaults, UNLIMITED)
        if not self.unified:
            return found
        own = msgspec.structs.replace(self, own={})
        for names, rules in ((PLACED, self), (LOCAL, own)):
            for legacy, name in names.items():
                unset = name not in rules.own and name not in rules.registered
                found[legacy] = 0 if shown and unset else rules.limit(name)
        return found


class Over(msgspec.Struct, frozen=True):
    """One unified limit that a request would exceed."""

    name: str
    limit: int
    used: int
    wanted: int


def exceeded(over: Mapping[str, tuple[int, int]], requested: Mapping[str, int | str]) -> OverQuota:
    """The refusal of servers. ``over``: resource → (used, limit)."""
    names = sorted(over)
    text = ", ".join(names)
    wanted = ", ".join(str(requested[name]) for name in names)
    used = ", ".join(str(over[name][0]) for name in names)
    limits = ", ".join(str(over[name][1]) for name in names)
    return OverQuota(
        f"Quota exceeded for {text}: Requested {wanted}, but already used {used} of {limits} {text}"
    )


def unified_exceeded(project_id: str | None, over: Sequence[Over]) -> OverQuota:
    """The refusal by unified limits, in the words of oslo.limit."""
    parts = ", ".join(
        f"Resource {one.name} is over limit of {one.limit} due to current usage {one.used} "
        f"and delta {one.wanted}"
        for one in over
    )
    return OverQuota(f"Project {project_id} is over a limit for [{parts}]")


_WORDS = {
    "metadata_items": "Maximum number of metadata items exceeds {limit}",
    "injected_files": "Personality file limit exceeded",
    "injected_file_path_bytes": "Personality file path exceeds maximum {limit}",
    "injected_file_content_bytes": "Personality file content exceeds maximum {limit}",
    "key_pairs": "Quota exceeded, too many key pairs.",
    "server_groups": "Quota exceeded, too many server groups.",
    "server_group_members": "Quota exceeded, too many servers in group",
}


def refusal(
    name: str, limit: int, *, unified: bool = False, used: int = 0, wanted: int = 1
) -> OverQuota:
    """The refusal of ``wanted`` more of a resource (a name in the API) when ``used`` are there."""
    if unified:
        return unified_exceeded(None, [Over(LOCAL[name], limit, used, wanted)])
    return OverQuota(_WORDS[name].format(limit=limit))


def check(limits: Mapping[str, int], name: str, wanted: int, *, unified: bool) -> None:
    """OverQuota when ``wanted`` of a resource (a name in the API) pass its limit."""
    limit = limits[name]
    if limit != UNLIMITED and wanted > limit:
        raise refusal(name, limit, unified=unified, wanted=wanted)
