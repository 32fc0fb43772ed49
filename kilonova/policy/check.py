"""Check strings of the default rules, read and decided without oslo.policy's machinery.

Whoever has no policy file, which is nearly everybody, is spared half a second of imports and
parsing at every start. What an operator writes is read by oslo.policy itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from kilonova.policy.rule import Rule

_OWN = {
    "project_id": "%(project_id)s",
    "user_id": "%(user_id)s",
}


class Fixed(msgspec.Struct, frozen=True):
    """``@`` (or nothing at all) allows everything, ``!`` nothing."""

    allows: bool

    def __str__(self) -> str:
        return "@" if self.allows else "!"


class Match(msgspec.Struct, frozen=True):
    """``kind:match``: ``rule`` and ``role`` mean what they say, others look at the caller."""

    kind: str
    match: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.match}"


class Not(msgspec.Struct, frozen=True):
    """Allows what the other does not."""

    check: Check

    def __str__(self) -> str:
        return f"not {self.check}"


class Several(msgspec.Struct, frozen=True):
    """``word`` is ``and`` or ``or``."""

    word: str
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return f"({f' {self.word} '.join(map(str, self.checks))})"


Check = Fixed | Match | Not | Several


def parse(text: str) -> Check:
    """A check string as a tree; ValueError when it is none."""
    if not text.strip():
        return Fixed(True)
    words = list(_words(text))
    check = _several(words, "or")
    if words:
        raise ValueError(f"{text!r} is no policy check")
    return check


def _words(text: str) -> Iterator[str]:
    """Words, and parentheses that stand before or after one: those inside are ``%(name)s``."""
    for word in text.split():
        inner = word.lstrip("(")
        yield from "(" * (len(word) - len(inner))
        plain = inner.rstrip(")")
        if plain:
            yield plain.lower() if plain.lower() in ("and", "or", "not") else plain
        yield from ")" * (len(inner) - len(plain))


def _several(words: list[str], word: str) -> Check:
    """``and`` binds closer than ``or``."""
    found = [_inner(words, word)]
    while words and words[0] == word:
        words.pop(0)
        found.append(_inner(words, word))
    return found[0] if len(found) == 1 else Several(word, tuple(found))


def _inner(words: list[str], word: str) -> Check:
    return _several(words, "and") if word == "or" else _one(words)


def _one(words: list[str]) -> Check:
    word = words.pop(0) if words else ""
    if word == "not":
        return Not(_one(words))
    if word == "(":
        check = _several(words, "or")
        if not words or words.pop(0) != ")":
            raise ValueError("a parenthesis of a policy check is not closed")
        return check
    if word in ("@", "!"):
        return Fixed(word == "@")
    kind, colon, match = word.partition(":")
    if not colon:
        raise ValueError(f"{word!r} is no policy check")
    return Match(kind, match)


class Defaults:
    """The default rules in force, each read when it is first asked."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._checks: dict[str, Check] = {}

    def __contains__(self, rule: object) -> bool:
        return rule in self._rules

    def check(self, rule: str) -> Check:
        """What a rule wants; one nobody registered allows nothing."""
        check = self._checks.get(rule)
        if check is None:
            row = self._rules.get(rule)
            check = self._checks[rule] = Fixed(False) if row is None else parse(row.check)
        return check

    def evaluate(self, rule: str, target: Mapping[str, Any], who: Mapping[str, Any]) -> bool:
        """Whether the credentials ``who`` may do what ``rule`` guards to ``target``."""
        row = self._rules.get(rule)
        if row is None:
            return False
        if row.scope_types and _scope(who) not in row.scope_types:
            return False
        return self._holds(self.check(rule), target, who)

    def _holds(self, check: Check, target: Mapping[str, Any], who: Mapping[str, Any]) -> bool:
        match check:
            case Fixed():
                allowed = check.allows
            case Not():
                allowed = not self._holds(check.check, target, who)
            case Several(word="and"):
                allowed = all(self._holds(inner, target, who) for inner in check.checks)
            case Several():
                allowed = any(self._holds(inner, target, who) for inner in check.checks)
            case Match(kind="rule"):
                allowed = self._holds(self.check(check.match), target, who)
            case Match():
                allowed = _matches(check, target, who)
        return allowed

    def simple(self, rule: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether only roles, scope, and whose the target is decide a rule."""
        if rule in seen or rule not in self:
            return False
        return self._simple(self.check(rule), seen | {rule})

    def _simple(self, check: Check, seen: frozenset[str]) -> bool:
        match check:
            case Fixed():
                simple = True
            case Not():
                simple = self._simple(check.check, seen)
            case Several():
                simple = all(self._simple(inner, seen) for inner in check.checks)
            case Match(kind="rule"):
                simple = self.simple(check.match, seen)
            case Match(kind="role"):
                simple = "%" not in check.match
            case Match(kind="is_admin"):
                # Who is an administrator is found out with ``is_admin`` False.
                simple = "%" not in check.match and (
                    "context_is_admin" in seen or self.simple("context_is_admin", seen)
                )
            case Match():
                simple = simple_match(check.kind, check.match)
        return simple


def simple_match(kind: str, match: str) -> bool:
    """Whether a comparison asks only if project or user of the target are the caller's own."""
    return _OWN.get(kind) == match


def _scope(who: Mapping[str, Any]) -> str:
    if who.get("system_scope"):
        return "system"
    return "domain" if who.get("domain_id") else "project"


def _matches(check: Match, target: Mapping[str, Any], who: Mapping[str, Any]) -> bool:
    try:
        wanted = check.match % target
    except KeyError:
        return False
    if check.kind == "role":
        return wanted.lower() in [role.lower() for role in who.get("roles", ())]
    return _says(check.kind, wanted, who)


def _says(kind: str, wanted: str, who: Mapping[str, Any]) -> bool:
    """``kind`` is a literal, or the dotted path of one of the caller's attributes."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*", kind) or kind in ("True", "False", "None"):
        return wanted == str(ast.literal_eval(kind))
    found: list[Any] = [who]
    for name in kind.split("."):
        inner = [value[name] for value in found if isinstance(value, Mapping) and name in value]
        found = [one for value in inner for one in (value if isinstance(value, list) else [value])]
    return any(wanted == str(value) for value in found)
