"""One policy rule as a row: its name, default check, and what it guards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:  # takes long to import, and a start gets by without
    from oslo_policy import policy


class PolicyError(Exception):
    """A policy file that cannot be used."""


class Deprecated(msgspec.Struct, frozen=True):
    """What a rule was before; an override of the old name still works, with a warning."""

    name: str
    check: str
    reason: str
    since: str


class Rule(msgspec.Struct, frozen=True):
    """A rule: ``check`` in oslo.policy's language, ``operations`` as ``"METHOD /path (action)"``.

    ``scope_types`` says which tokens may use it at all (``project``, ``domain``, ``system``);
    empty for every scope.
    """

    name: str
    check: str
    description: str = ""
    operations: tuple[str, ...] = ()
    scope_types: tuple[str, ...] = ()
    deprecated: Deprecated | None = None

    def default(self) -> policy.RuleDefault:
        """The rule as oslo.policy registers it."""
        from oslo_policy import policy  # noqa: PLC0415 (see above)

        deprecated = None
        if self.deprecated is not None:
            deprecated = policy.DeprecatedRule(
                name=self.deprecated.name,
                check_str=self.deprecated.check,
                deprecated_reason=self.deprecated.reason,
                deprecated_since=self.deprecated.since,
            )
        scope_types = list(self.scope_types) or None
        if not self.operations:
            return policy.RuleDefault(
                self.name,
                self.check,
                description=self.description or None,
                scope_types=scope_types,
                deprecated_rule=deprecated,
            )
        return policy.DocumentedRuleDefault(
            self.name,
            self.check,
            description=self.description or f"Guards {'; '.join(self.operations)}",
            operations=[_operation(text) for text in self.operations],
            scope_types=scope_types,
            deprecated_rule=deprecated,
        )


def _operation(text: str) -> policy.Operation:
    method, _, path = text.partition(" ")
    return {"method": method, "path": path}
