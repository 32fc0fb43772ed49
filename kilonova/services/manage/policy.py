"""``nova-policy``: what the policy in force says, and what it lets somebody do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kilonova.base.clock import SystemClock
from kilonova.config.settings import Settings
from kilonova.services import policies
from kilonova.services.manage.opened import Opened
from kilonova.services.startup import Unconfigured
from kilonova.store import mappings
from kilonova.web.call import Caller

TARGETS = ("project_id", "user_id", "quota_class", "availability_zone", "instance_id")


def show(settings: Settings, near: Sequence[Path]) -> int:
    """Print every rule with its check as it is in force."""
    enforcer = policies.compute_enforcer(settings, SystemClock(), near=near)
    effective = enforcer.effective()
    for rule in enforcer.rules:
        print(f'"{rule.name}": "{effective[rule.name]}"')
    return 0


def check(
    settings: Settings,
    near: Sequence[Path],
    *,
    roles: Sequence[str],
    user_id: str,
    project_id: str | None,
    api_name: str | None,
    target: Sequence[str],
) -> int:
    """Print the rules (whose name contains ``api_name``) that let the user act; 1 if none does.

    ``target``: ``key=value`` words; the user's own project and self when there are none.
    """
    enforcer = policies.compute_enforcer(settings, SystemClock(), near=near)
    caller = Caller(user_id=user_id, project_id=project_id, roles=tuple(roles))
    aim = _target(settings, target) or {"project_id": project_id or "", "user_id": user_id}
    passing = [
        rule.name
        for rule in enforcer.rules
        if (api_name is None or api_name in rule.name)
        and rule.operations
        and enforcer.allows(rule.name, caller, aim)
    ]
    print("\n".join(passing) if passing else "No rules matched or allowed")
    return 0 if passing else 1


def _target(settings: Settings, words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if key not in TARGETS or not sign:
            raise Unconfigured(
                f"{word} is no target: write KEY=VALUE with one of {', '.join(TARGETS)}."
            )
        found[key] = value
    server_id = found.pop("instance_id", None)
    if server_id is not None:
        with Opened(settings) as there:
            mapping = there.api.run_sync(mappings.find, server_id)
        if mapping is None:
            raise Unconfigured(f"There is no server {server_id}.")
        found |= {"project_id": mapping.project_id, "user_id": mapping.user_id}
    return found
