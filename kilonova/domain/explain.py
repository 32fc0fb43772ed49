"""Why no host was found for a server, and what would have to be different."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.domain.whynot import WhyNot

USER = "user"
OPERATOR = "operator"


class Change(msgspec.Struct, frozen=True):
    """One thing that, were it different, would let the server be placed; it was tried out.

    ``kind``: resource, trait, zone, host, group, hint, extra_spec, property, enable, up, room,
    aggregate, isolated, ignored, count, filter, quota, or several (``parts``). ``text`` names no
    host. ``who`` can do it: the user, who asks for something else, or an operator. ``cost`` orders
    changes: the smaller the better. ``args`` says it for programs: ``resource`` with ``asked``,
    ``to`` and ``less`` (memory MiB, disk GiB), ``name``, ``zone`` … ``host`` is for administrators.
    """

    kind: str
    text: str
    who: str = USER
    cost: float = 1.0
    args: dict[str, Any] = {}
    host: str = ""
    parts: tuple[Change, ...] = ()

    def public(self) -> Change:
        """The same without hosts."""
        parts = tuple(part.public() for part in self.parts)
        return msgspec.structs.replace(self, host="", parts=parts)


class Why(msgspec.Struct, frozen=True):
    """The reason in one sentence without hosts, and in parts.

    ``blame``: the constraints in the way, as ``resource:VCPU``, ``trait:NAME``, ``zone:NAME``,
    ``filter:NAME``, ``host:NAME`` …; dropping all of them, and no fewer, places the server.
    ``placement`` is Placement's share of the reasons, where it was the one that had nothing left.
    ``changes``: smallest first. ``complete`` False: there was no time to try everything.
    """

    reason: str
    blame: tuple[str, ...] = ()
    placement: WhyNot | None = None
    changes: tuple[Change, ...] = ()
    complete: bool = True
