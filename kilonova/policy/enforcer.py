"""The enforcer: default rules, an operator's own over them, results remembered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kilonova.base.clock import Clock
from kilonova.policy.check import Defaults
from kilonova.policy.rule import PolicyError, Rule

if TYPE_CHECKING:  # oslo.policy takes long to import, and only policy files need it
    from oslo_policy import policy

    from kilonova.policy.library import Written

log = logging.getLogger(__name__)

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
        self._enforce_scope = enforce_scope
        self._enforce_new_defaults = enforce_new_defaults
        self._file = policy_file
        self._dirs = tuple(policy_dirs)
        self._clock = clock
        self._check_every = check_every
        self.rules = tuple({rule.name: rule for rule in rules}.values())
        self._stamp = self._look()
        self._next_look = clock.monotonic() + check_every
        self._results: dict[tuple[object, ...], bool] = {}
        self._simple: dict[str, bool] = {}
        self._in_force = self._load()

    def allows(self, rule: str, caller: Subject, target: Mapping[str, Any]) -> bool:
        """Whether ``rule`` lets ``caller`` act on ``target``."""
        now = self._clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + self._check_every
            self._reload_if_changed()
        simple = self._simple.get(rule)
        if simple is None:
            simple = self._simple[rule] = self._in_force.simple(rule)
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
        return self._written().effective()

    def library(self) -> policy.Enforcer:
        """oslo.policy's own enforcer with the rules in force, for its tools."""
        return self._written().enforcer

    def _evaluate(self, rule: str, caller: Subject, target: Mapping[str, Any]) -> bool:
        if rule not in self._in_force:
            log.warning("no policy rule is named %s: refused", rule)
            return False
        credentials = caller.credentials()
        if rule != "context_is_admin" and "context_is_admin" in self._in_force:
            credentials["is_admin"] = self.is_admin(caller)
        return self._in_force.evaluate(rule, target, credentials)

    def _load(self) -> Defaults | Written:
        if self._enforce_scope and self._enforce_new_defaults and not self._stamp:
            return Defaults(self.rules)
        return self._written()

    def _written(self) -> Written:
        from kilonova.policy.library import Written  # noqa: PLC0415 (see above)

        return Written(
            self.rules,
            policy_file=self._file,
            policy_dirs=self._dirs,
            enforce_scope=self._enforce_scope,
            enforce_new_defaults=self._enforce_new_defaults,
        )

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
            self._in_force = self._load()
        except PolicyError as error:
            log.error("%s The rules read before stay in force.", error)
            return
        self._results.clear()
        self._simple.clear()
        log.info("policy files were read again")


def _kinship(target: Mapping[str, Any], name: str, own: str | None) -> int:
    """How the target's id relates to the caller's: absent 0, equal 1, different 2, or empty 3."""
    if name not in target:
        return 0
    theirs = target[name]
    if theirs is None or own is None:
        return 3 if theirs is own else 2
    return 1 if str(theirs) == str(own) else 2
