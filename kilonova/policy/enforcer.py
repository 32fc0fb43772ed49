"""The enforcer: oslo.policy with defaults registered, overrides re-read, results remembered."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from oslo_config import cfg
from oslo_policy import _checks as checks
from oslo_policy import policy

from kilonova.base.clock import Clock
from kilonova.policy.rule import Rule

log = logging.getLogger(__name__)

_OWN = {
    "project_id": "%(project_id)s",
    "user_id": "%(user_id)s",
}
_REMEMBERED = 20_000

Stamp = tuple[tuple[str, int, int], ...]


class Subject(Protocol):
    """What must be known of a caller."""

    @property
    def user_id(self) -> str:
        """The user."""

    @property
    def project_id(self) -> str | None:
        """The project of the token, None for other scopes."""

    @property
    def domain_id(self) -> str | None:
        """The domain of a domain-scoped token."""

    @property
    def system_scope(self) -> str | None:
        """``all`` for a system-scoped token."""

    @property
    def roles(self) -> tuple[str, ...]:
        """Role names."""

    def credentials(self) -> dict[str, Any]:
        """Everything oslo.policy may look at."""


class PolicyError(Exception):
    """A policy file that cannot be used."""


class PolicyEnforcer:
    """Decides by the registered rules and an operator's ``policy.yaml`` and ``policy.d``.

    Files are looked at again at most every ``check_every`` seconds; a file that has become
    unreadable leaves the last good rules in force. A rule nobody registered or wrote allows
    nothing. Results are remembered for rules that look only at roles, scope, and whether project
    and user of the target are the caller's own.
    """

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        clock: Clock,
        policy_file: Path | None = None,
        policy_dirs: Sequence[Path] = (),
        check_every: float = 1.0,
        enforce_scope: bool = True,
        enforce_new_defaults: bool = True,
    ) -> None:
        """Raises PolicyError if a policy file is there and cannot be read.

        ``enforce_scope``: refuse tokens of a scope a rule does not name. ``enforce_new_defaults``
        False also allows what deprecated defaults allowed.
        """
        self._flags = {
            "enforce_scope": enforce_scope,
            "enforce_new_defaults": enforce_new_defaults,
        }
        self._file = policy_file
        self._dirs = tuple(policy_dirs)
        self._clock = clock
        self._check_every = check_every
        self.rules = tuple({rule.name: rule for rule in rules}.values())
        self._stamp = self._look()
        self._next_look = clock.monotonic() + check_every
        self._results: dict[tuple[object, ...], bool] = {}
        self._simple: dict[str, bool] = {}
        self._enforcer = self._load()

    def allows(self, rule: str, caller: Subject, target: Mapping[str, Any]) -> bool:
        """Whether ``rule`` lets ``caller`` act on ``target``."""
        now = self._clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + self._check_every
            self._reload_if_changed()
        simple = self._simple.get(rule)
        if simple is None:
            simple = self._simple[rule] = self._is_simple(rule, frozenset())
        if not simple:
            return self._evaluate(rule, caller, target)
        key = (
            rule,
            caller.roles,
            caller.system_scope is not None,
            caller.domain_id is not None,
            _kinship(target, "project_id", caller.project_id),
            _kinship(target, "user_id", caller.user_id),
        )
        result = self._results.get(key)
        if result is None:
            if len(self._results) >= _REMEMBERED:
                self._results.clear()
            result = self._results[key] = self._evaluate(rule, caller, target)
        return result

    def is_admin(self, caller: Subject) -> bool:
        """Whether ``context_is_admin`` holds (it is what ``is_admin:True`` means)."""
        return self.allows("context_is_admin", caller, {})

    def effective(self) -> dict[str, str]:
        """Every rule's check as it is in force, overrides included."""
        return {name: str(check) for name, check in self._enforcer.rules.items()}

    def library(self) -> policy.Enforcer:
        """oslo.policy's own enforcer with the rules in force, for its tools."""
        return self._enforcer

    def _evaluate(self, rule: str, caller: Subject, target: Mapping[str, Any]) -> bool:
        if rule not in self._enforcer.rules:
            log.warning("no policy rule is named %s: refused", rule)
            return False
        credentials = caller.credentials()
        if rule != "context_is_admin" and "context_is_admin" in self._enforcer.rules:
            credentials["is_admin"] = self.is_admin(caller)
        return bool(self._enforcer.enforce(rule, dict(target), credentials))

    def _load(self) -> policy.Enforcer:
        conf = cfg.ConfigOpts()
        conf(args=[], project="kilonova", default_config_files=[], default_config_dirs=[])
        # A file that is not there is the ordinary case: an absolute name keeps the library from
        # finding some other service's file in its search directories.
        file = self._file.absolute() if self._file else Path("/nonexistent/policy.yaml")
        enforcer = policy.Enforcer(conf, policy_file=str(file))
        enforcer.suppress_default_change_warnings = True
        conf.set_override("policy_dirs", [str(d.absolute()) for d in self._dirs], "oslo_policy")
        for flag, value in self._flags.items():
            # Newer libraries always enforce the scope and have no option for it.
            with contextlib.suppress(cfg.NoSuchOptError):
                conf.set_override(flag, value, "oslo_policy")
        enforcer.register_defaults([rule.default() for rule in self.rules])
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                enforcer.load_rules(force_reload=True)
        except Exception as error:
            raise PolicyError(f"The policy file {file} cannot be used: {error}") from error
        for text in {str(warning.message) for warning in told}:
            log.warning("%s", text)
        # From here on this object decides when files are read again.
        enforcer.use_conf = False
        return enforcer

    def _look(self) -> Stamp:
        paths = [self._file] if self._file else []
        for folder in self._dirs:
            if folder.is_dir():
                paths.extend(sorted(folder.iterdir()))
        rows = []
        for path in paths:
            try:
                stat = path.stat()
            except OSError:
                continue
            rows.append((str(path), stat.st_mtime_ns, stat.st_size))
        return tuple(rows)

    def _reload_if_changed(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._enforcer = self._load()
        except PolicyError as error:
            log.error("%s The rules read before stay in force.", error)
            return
        self._results.clear()
        self._simple.clear()
        log.info("policy files were read again")

    def _is_simple(self, rule: str, seen: frozenset[str]) -> bool:
        if rule in seen:
            return False
        check = self._enforcer.rules.get(rule)
        return check is not None and self._simple_check(check, seen | {rule})

    def _simple_check(self, check: Any, seen: frozenset[str]) -> bool:
        match check:
            case checks.TrueCheck() | checks.FalseCheck():
                simple = True
            case checks.AndCheck() | checks.OrCheck():
                simple = all(self._simple_check(inner, seen) for inner in check.rules)
            case checks.NotCheck():
                simple = self._simple_check(check.rule, seen)
            case checks.RuleCheck():
                simple = self._is_simple(check.match, seen)
            case checks.RoleCheck():
                simple = "%" not in check.match
            case checks.GenericCheck(kind="is_admin"):
                # Who is an administrator is found out with ``is_admin`` False.
                simple = "%" not in check.match and (
                    "context_is_admin" in seen or self._is_simple("context_is_admin", seen)
                )
            case checks.GenericCheck():
                simple = bool(_OWN.get(check.kind) == check.match)
            case _:
                simple = False
        return simple


def _kinship(target: Mapping[str, Any], name: str, own: str | None) -> int:
    """How the target's id relates to the caller's: absent 0, equal 1, different 2, or empty 3."""
    if name not in target:
        return 0
    theirs = target[name]
    if theirs is None or own is None:
        return 3 if theirs is own else 2
    return 1 if str(theirs) == str(own) else 2
