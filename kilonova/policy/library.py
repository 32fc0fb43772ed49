"""The rules in force where an operator wrote some: oslo.policy reads and decides."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_policy import _checks as checks
from oslo_policy import policy

from kilonova.policy.check import simple_match
from kilonova.policy.rule import PolicyError, Rule

log = logging.getLogger(__name__)


class Written:
    """Default rules with the overrides of policy files over them."""

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        policy_file: Path | None,
        policy_dirs: Sequence[Path],
        enforce_scope: bool,
        enforce_new_defaults: bool,
    ) -> None:
        """Raises PolicyError if a policy file is there and cannot be read."""
        flags = {"enforce_scope": enforce_scope, "enforce_new_defaults": enforce_new_defaults}
        conf = cfg.ConfigOpts()
        conf(args=[], project="kilonova", default_config_files=[], default_config_dirs=[])
        # A file that is not there is the ordinary case: an absolute name keeps the library from
        # finding some other service's file in its search directories.
        file = policy_file.absolute() if policy_file else Path("/nonexistent/policy.yaml")
        enforcer = policy.Enforcer(conf, policy_file=str(file))
        enforcer.suppress_default_change_warnings = True
        conf.set_override("policy_dirs", [str(d.absolute()) for d in policy_dirs], "oslo_policy")
        for flag, value in flags.items():
            # Newer libraries always enforce the scope and have no option for it.
            with contextlib.suppress(cfg.NoSuchOptError):
                conf.set_override(flag, value, "oslo_policy")
        enforcer.register_defaults([rule.default() for rule in rules])
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                enforcer.load_rules(force_reload=True)
        except Exception as error:
            raise PolicyError(f"The policy file {file} cannot be used: {error}") from error
        for text in {str(warning.message) for warning in told}:
            log.warning("%s", text)
        # From here on the owner decides when files are read again.
        enforcer.use_conf = False
        self.enforcer = enforcer

    def __contains__(self, rule: object) -> bool:
        return rule in self.enforcer.rules

    def evaluate(self, rule: str, target: Mapping[str, Any], who: dict[str, Any]) -> bool:
        """Whether the credentials ``who`` may do what ``rule`` guards to ``target``."""
        return bool(self.enforcer.enforce(rule, dict(target), who))

    def effective(self) -> dict[str, str]:
        """Every rule's check as it is in force."""
        return {name: str(check) for name, check in self.enforcer.rules.items()}

    def simple(self, rule: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether only roles, scope, and whose the target is decide a rule."""
        if rule in seen:
            return False
        check = self.enforcer.rules.get(rule)
        return check is not None and self._simple(check, seen | {rule})

    def _simple(self, check: Any, seen: frozenset[str]) -> bool:
        match check:
            case checks.TrueCheck() | checks.FalseCheck():
                simple = True
            case checks.AndCheck() | checks.OrCheck():
                simple = all(self._simple(inner, seen) for inner in check.rules)
            case checks.NotCheck():
                simple = self._simple(check.rule, seen)
            case checks.RuleCheck():
                simple = self.simple(check.match, seen)
            case checks.RoleCheck():
                simple = "%" not in check.match
            case checks.GenericCheck(kind="is_admin"):
                # Who is an administrator is found out with ``is_admin`` False.
                simple = "%" not in check.match and (
                    "context_is_admin" in seen or self.simple("context_is_admin", seen)
                )
            case checks.GenericCheck():
                simple = simple_match(check.kind, check.match)
            case _:
                simple = False
        return simple
