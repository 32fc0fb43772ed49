"""The rules of server groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AFFINITY = "affinity"
ANTI_AFFINITY = "anti-affinity"


def most_per_host(rules: Mapping[str, Any]) -> int:
    """Members of an anti-affinity group that one host may have (``max_server_per_host``)."""
    return int(rules.get("max_server_per_host", 1))


def broken_rule(
    policy: str, rules: Mapping[str, Any], counts: Mapping[str, int], host: str
) -> str | None:
    """Why one more member may not go to ``host``; None when it may.

    ``counts``: host → other members there. Soft policies forbid nothing.
    """
    if policy == ANTI_AFFINITY:
        most, there = most_per_host(rules), counts.get(host, 0)
        if there >= most:
            return f"it has {there} members of the group, {most} may be"
    elif policy == AFFINITY:
        hosts = sorted(name for name, count in counts.items() if count)
        if hosts and host not in hosts:
            return f"the group is on {', '.join(hosts)}"
    return None
