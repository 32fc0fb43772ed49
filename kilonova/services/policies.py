"""Enforcers with an operator's rules, and the web options they come with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from kilonova.base.clock import Clock
from kilonova.config.settings import Settings
from kilonova.placement import policies as placement_policies
from kilonova.policy import compute
from kilonova.policy.enforcer import PolicyEnforcer
from kilonova.web.middleware import Cors

USUAL = (Path("/etc/nova"),)
USUAL_PLACEMENT = (Path("/etc/placement"),)


def compute_enforcer(
    settings: Settings, clock: Clock, *, near: Sequence[Path] = ()
) -> PolicyEnforcer:
    """The Compute API's rules. PolicyError for a file that cannot be used."""
    section = settings.oslo_policy
    places = (*near, *USUAL)
    return PolicyEnforcer(
        compute.RULES,
        clock=clock,
        policy_file=find(section.policy_file, places),
        policy_dirs=[found for name in section.policy_dirs if (found := find(name, places))],
        enforce_scope=section.enforce_scope,
        enforce_new_defaults=section.enforce_new_defaults,
    )


def placement_enforcer(
    settings: Settings, *, near: Sequence[Path] = ()
) -> placement_policies.Enforcer:
    """Placement's rules. PolicyError for a file that cannot be used."""
    section = settings.oslo_policy
    file = find(section.policy_file, (*near, *USUAL_PLACEMENT))
    return placement_policies.Enforcer(
        policy_file=file,
        enforce_new_defaults=section.enforce_new_defaults,
        enforce_scope=section.enforce_scope,
    )


def find(name: str, places: Sequence[Path]) -> Path | None:
    """The first of the places that has the file or directory; where the first would have it."""
    path = Path(name)
    if path.is_absolute():
        return path
    there = [place / path for place in places]
    return next((file for file in there if file.exists()), there[0] if there else None)


def cors(settings: Settings) -> Cors:
    """``[cors]`` for the web layer."""
    return Cors(**msgspec.structs.asdict(settings.cors))
