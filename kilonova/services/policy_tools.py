"""What the command-line tools of oslo.policy ask for: enforcers with the rules an operator has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from oslo_config import cfg
from oslo_policy import opts, policy

from kilonova.base.clock import SystemClock
from kilonova.config.settings import Settings, load
from kilonova.services import policies


def compute() -> policy.Enforcer:
    """The Compute API's (entry point ``nova`` of ``oslo.policy.enforcer``)."""
    settings, near = _settings("nova", policies.USUAL)
    return policies.compute_enforcer(settings, SystemClock(), near=near).library()


def placement() -> policy.Enforcer:
    """Placement's (entry point ``placement`` of ``oslo.policy.enforcer``)."""
    settings, near = _settings("placement", policies.USUAL_PLACEMENT)
    return policies.placement_enforcer(settings, near=near).library()


def _settings(project: str, places: Sequence[Path]) -> tuple[Settings, list[Path]]:
    """Settings and where they stand: the tool's own ``--config-file``, else the usual places."""
    files = [Path(f) for f in cfg.CONF.config_file or cfg.find_config_files(project=project)]
    settings, near = load(files), [file.absolute().parent for file in files]
    # The validator opens the file that the global object names.
    opts.set_defaults(cfg.CONF)
    file = policies.find(settings.oslo_policy.policy_file, (*near, *places))
    cfg.CONF.set_override("policy_file", str(file), "oslo_policy")
    return settings, near
