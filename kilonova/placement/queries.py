"""Reading query parameters: resources, traits and aggregates, each at its microversion."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence

import msgspec

from kilonova.base.errors import BadRequest

BAD_VALUE = "placement.query.bad_value"
DUPLICATE = "placement.query.duplicate_key"
MISSING = "placement.query.missing_value"
_INVALID = "Invalid query string parameters: "


class Traits(msgspec.Struct, frozen=True):
    """What a provider must and must not have: one of each set, none of ``forbidden``."""

    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Every trait named."""
        return self.forbidden.union(*self.required)

    def accept(self, traits: frozenset[str]) -> bool:
        """Whether a provider with these traits will do."""
        return not (self.forbidden & traits) and all(some & traits for some in self.required)


class Aggregates(msgspec.Struct, frozen=True):
    """In which aggregates to be: one of each set, none of ``forbidden``."""

    member_of: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.member_of or self.forbidden)

    def accept(self, aggregates: frozenset[str]) -> bool:
        """Whether a provider in these aggregates will do."""
        return not (self.forbidden & aggregates) and all(
            some & aggregates for some in self.member_of
        )


def is_uuid(text: str) -> bool:
    """Whether it is a UUID, with or without dashes."""
    try:
        return uuid.UUID(text).hex == text.lower().replace("-", "")
    except ValueError:
        return False


def canonical(text: str) -> str:
    """A UUID in its usual form, with dashes and small letters; anything else as it is."""
    return str(uuid.UUID(text)) if is_uuid(text) else text


def resources(text: str) -> dict[str, int]:
    """``VCPU:2,MEMORY_MB:512`` as class → amount; BadRequest."""
    form = (
        "Badly formed resources parameter. Expected resources query string parameter in form: "
        "?resources=VCPU:2,MEMORY_MB:1024. Got: "
    )
    if not text.strip():
        raise BadRequest(f"{form}empty string.")
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.partition(":")
        if not colon or not name:
            raise BadRequest(f"{form}{part}.")
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", amount.strip()):
            raise BadRequest(
                f"Requested resource {name} expected positive integer amount. Got: {amount}."
            )
        if int(amount) < 1:
            raise BadRequest(f"Requested resource {name} requires amount >= 1. Got: {int(amount)}.")
        found[name] = int(amount)
    return found


def traits(key: str, values: Sequence[str], version: int) -> Traits:
    """The values of a ``required`` parameter; BadRequest.

    Until 1.38 the last value counts and ``in:`` is not known; ``!`` is from 1.22 on.
    """
    if version < 39:
        values = values[-1:]
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        if value.startswith("in:"):
            if version < 39:
                raise BadRequest(
                    f"{_INVALID}The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported "
                    "since microversion 1.39."
                )
            names = value[3:].split(",")
            if any(not name.strip() or name.startswith("!") for name in names):
                raise _bad_traits(key, value, version)
            required.append(frozenset(name.strip() for name in names))
            continue
        for name in (part.strip() for part in value.split(",")):
            if not name or name == "!" or (name.startswith("!") and version < 22):
                raise _bad_traits(key, value, version)
            if name.startswith("!"):
                forbidden.add(name[1:])
            else:
                required.append(frozenset((name,)))
    return Traits(tuple(dict.fromkeys(required)), frozenset(forbidden))


def _bad_traits(key: str, value: str, version: int) -> BadRequest:
    form = "HW_CPU_X86_VMX,CUSTOM_MAGIC"
    if version >= 22:
        form = "HW_CPU_X86_VMX,!CUSTOM_MAGIC"
    if version >= 39:
        form += ". or in:HW_CPU_X86_VMX,CUSTOM_MAGIC"
    return BadRequest(
        f"{_INVALID}Expected '{key}' parameter value of the form: {form}. Got: {value}"
    )


def contradictions(wanted: Traits) -> list[str]:
    """Traits both required (alone) and forbidden."""
    alone = {name for some in wanted.required if len(some) == 1 for name in some}
    return sorted(alone & wanted.forbidden)


def impossible(wanted: Traits) -> list[str]:
    """Traits of required sets that are wholly forbidden: nothing can satisfy them."""
    return sorted({n for some in wanted.required if some <= wanted.forbidden for n in some})


def aggregates(key: str, values: Sequence[str], version: int) -> Aggregates:
    """The values of a ``member_of`` parameter; BadRequest."""
    if version < 24 and len(values) > 1:
        raise BadRequest("Multiple member_of parameters are not supported")
    member_of: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        rest = value
        negative = rest.startswith("!")
        if negative:
            if version < 32:
                raise BadRequest(
                    "Forbidden member_of parameters are not supported in the specified microversion"
                )
            rest = rest[1:]
        if rest.startswith("in:"):
            found = rest[3:].split(",")
        else:
            found = [rest]
            if "," in rest:
                raise BadRequest(
                    f"{_INVALID}Multiple values for '{key}' must be prefixed with the 'in:' or "
                    f"'!in:' keyword using the valid microversion. Got: {value}"
                )
        if not all(is_uuid(one) for one in found):
            raise BadRequest(
                f"{_INVALID}Expected '{key}' parameter to contain valid UUID(s). Got: {value}"
            )
        if negative:
            forbidden.update(found)
        else:
            member_of.append(frozenset(found))
    return Aggregates(tuple(member_of), frozenset(forbidden))


def in_tree(key: str, value: str) -> str:
    """The uuid of an ``in_tree`` parameter; BadRequest."""
    if not is_uuid(value):
        raise BadRequest(
            f"{_INVALID}Expected '{key}' parameter to be a format of uuid. Got: {value}"
        )
    return value


class Group(msgspec.Struct, frozen=True):
    """One request group. The one without suffix may be spread over providers of a tree and those
    sharing with it; one with a suffix is served by one provider."""

    suffix: str = ""
    resources: dict[str, int] = {}
    traits: Traits = Traits()
    aggregates: Aggregates = Aggregates()
    in_tree: str | None = None


class Wanted(msgspec.Struct, frozen=True):
    """A whole request for candidates."""

    groups: tuple[Group, ...]
    isolate: bool = False
    same_subtree: tuple[frozenset[str], ...] = ()
    root: Traits = Traits()
    limit: int | None = None


_KEY = re.compile(r"(resources|required|member_of|in_tree)([A-Za-z0-9_-]{1,64})?")


def wanted(query: Mapping[str, Sequence[str]], version: int) -> Wanted:
    """The request in the parameters of ``GET /allocation_candidates`` (already checked by the
    schema of their names); BadRequest."""
    parts: dict[str, dict[str, Sequence[str]]] = {}
    for key, values in query.items():
        found = _KEY.fullmatch(key)
        if found and values:
            parts.setdefault(found[2] or "", {})[found[1]] = values
    limit = query.get("limit")
    same_subtree = tuple(_subtree(value) for value in query.get("same_subtree", ()))
    _check_complete(parts, same_subtree, version)
    policy = query.get("group_policy")
    numbered = [suffix for suffix, part in parts.items() if suffix and "resources" in part]
    if len(numbered) > 1 and not policy:
        raise BadRequest(
            'The "group_policy" parameter is required when specifying more than one '
            '"resources{N}" parameter.',
            code=MISSING,
        )
    groups = tuple(_group(suffix, part, version) for suffix, part in parts.items())
    _check_traits(groups)
    return Wanted(
        groups=groups,
        isolate=bool(policy) and policy is not None and policy[0] == "isolate",
        same_subtree=same_subtree,
        root=_root(query.get("root_required", ())),
        limit=int(limit[0]) if limit else None,
    )


def _group(suffix: str, part: Mapping[str, Sequence[str]], version: int) -> Group:
    return Group(
        suffix=suffix,
        resources=resources(part["resources"][-1]) if "resources" in part else {},
        traits=traits(f"required{suffix}", part.get("required", ()), version),
        aggregates=aggregates(f"member_of{suffix}", part.get("member_of", ()), version),
        in_tree=in_tree(f"in_tree{suffix}", part["in_tree"][-1]) if "in_tree" in part else None,
    )


def _check_complete(
    parts: Mapping[str, Mapping[str, object]],
    same_subtree: Sequence[frozenset[str]],
    version: int,
) -> None:
    if version < 36:
        for key, title in (("required", "traits"), ("member_of", "member_of")):
            lost = [key + s for s, part in parts.items() if key in part and "resources" not in part]
            if lost:
                raise BadRequest(
                    f"All {title} parameters must be associated with resources. Found the "
                    f"following orphaned {title} keys: {', '.join(sorted(lost))}"
                )
        if any("resources" not in part for part in parts.values()):
            raise BadRequest("All request groups must specify resources.")
    if not parts:
        raise BadRequest("At least one request group (`resources` or `resources{$S}`) is required.")
    if not any("resources" in part for part in parts.values()):
        raise BadRequest(
            "There must be at least one resources or resources[$S] parameter.", code=MISSING
        )
    named = frozenset[str]().union(*same_subtree)
    unknown = sorted(named - set(parts))
    if unknown:
        raise BadRequest(
            f"Real suffixes should be specified in `same_subtree`: {', '.join(unknown)} not found "
            f"in {', '.join(sorted(parts))}",
            code=BAD_VALUE,
        )
    bare = sorted(s for s, part in parts.items() if "resources" not in part and s not in named)
    if bare:
        raise BadRequest(
            "Resourceless suffixed group request should be specified in `same_subtree` query "
            f"param: bad group(s) - {', '.join(bare)}",
            code=BAD_VALUE,
        )


def _subtree(value: str) -> frozenset[str]:
    suffixes = [part.strip() for part in value.split(",")]
    if "" in suffixes:
        raise BadRequest(
            "Empty string (unsuffixed group) can not be specified in `same_subtree`",
            code=BAD_VALUE,
        )
    return frozenset(suffixes)


def _check_traits(groups: Sequence[Group]) -> None:
    bad = {
        f"required{group.suffix}": found
        for group in groups
        if (found := contradictions(group.traits) or impossible(group.traits))
    }
    if bad:
        text = ", ".join(f"{key}: ({', '.join(found)})" for key, found in sorted(bad.items()))
        raise BadRequest(
            f"Conflicting required and forbidden traits found in the following traits keys: {text}"
        )


def _root(values: Sequence[str]) -> Traits:
    if not values:
        return Traits()
    if len(values) > 1:
        raise BadRequest(
            "Query parameter 'root_required' may be specified only once.", code=DUPLICATE
        )
    found = traits("root_required", values, 38)
    bad = contradictions(found)
    if bad:
        raise BadRequest(
            f"Conflicting required and forbidden traits found in root_required: {', '.join(bad)}",
            code=BAD_VALUE,
        )
    return found
