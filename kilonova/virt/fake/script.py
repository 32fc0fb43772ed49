"""The knobs of the fake driver: which operation fails or takes its time, where and how often."""

from __future__ import annotations

import msgspec

from kilonova.base.clock import Clock
from kilonova.base.errors import Fault, Unavailable

OPERATIONS = frozenset(
    {
        "arrive",
        "attach_disk",
        "attach_nic",
        "come_back",
        "console_log",
        "depart",
        "destroy",
        "detach_disk",
        "detach_nic",
        "diagnostics",
        "end_offer",
        "forget_aside",
        "drop_snapshot",
        "inject_nmi",
        "live_arrive",
        "live_check",
        "live_move",
        "live_prepare",
        "live_stay",
        "live_suits",
        "pause",
        "power_off",
        "power_on",
        "quiesce",
        "reboot",
        "rebuild",
        "report",
        "resize_disk",
        "rescue",
        "resume",
        "send_snapshot",
        "snapshot",
        "spawn",
        "merge_volume",
        "set_password",
        "snapshot_volume",
        "suspend",
        "swap_disk",
        "switch_host",
        "unquiesce",
        "unrescue",
        "wake",
    }
)


class Rule(msgspec.Struct):
    """One line of the script. ``left`` None: for ever. ``late``: fail with the effect made."""

    operation: str
    host: str | None
    server_id: str | None
    left: int | None
    seconds: float = 0.0
    error: Exception | None = None
    late: bool = False

    def meets(self, operation: str, host: str, server_id: str | None) -> bool:
        """Whether the rule speaks of this call."""
        return (
            self.left != 0
            and self.operation == operation
            and self.host in (None, host)
            and self.server_id in (None, server_id)
        )


class Script:
    """Rules in the order they were given; each call uses up one of every rule it meets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rules: list[Rule] = []

    def fails(
        self,
        operation: str,
        *,
        on: str | None = None,
        server: str | None = None,
        times: int | None = 1,
        error: Exception | str = "The fake hypervisor was told to fail.",
        late: bool = False,
    ) -> None:
        """Let the next ``times`` calls (None: all) fail; ``late`` ones after having had effect."""
        fault = Unavailable(error) if isinstance(error, str) else error
        self._add(Rule(operation, on, server, times, error=fault, late=late))

    def takes(
        self,
        operation: str,
        seconds: float,
        *,
        on: str | None = None,
        server: str | None = None,
        times: int | None = None,
    ) -> None:
        """Let calls take that long."""
        self._add(Rule(operation, on, server, times, seconds=seconds))

    def heals(self) -> None:
        """Forget every rule."""
        self._rules.clear()

    async def before(self, operation: str, host: str, server_id: str | None) -> Exception | None:
        """Wait and raise as the script says; gives the error to raise once the effect is made."""
        if not self._rules:
            return None
        late: Exception | None = None
        for rule in [r for r in self._rules if r.meets(operation, host, server_id)]:
            if rule.left is not None:
                rule.left -= 1
            if rule.seconds:
                await self._clock.sleep(rule.seconds)
            if rule.error is not None:
                if not rule.late:
                    raise _again(rule.error)
                late = _again(rule.error)
        self._rules = [rule for rule in self._rules if rule.left != 0]
        return late

    def lasts(self, operation: str, host: str, server_id: str | None) -> float:
        """How many seconds the next call will take."""
        return sum(r.seconds for r in self._rules if r.meets(operation, host, server_id))

    def _add(self, rule: Rule) -> None:
        if rule.operation not in OPERATIONS:
            raise ValueError(f"The fake driver has no {rule.operation!r}: {sorted(OPERATIONS)}")
        self._rules.append(rule)


def _again(error: Exception) -> Exception:
    """The error without the traceback of its last use."""
    if isinstance(error, Fault):
        return type(error)(error.message, code=error.code)
    return error.with_traceback(None)
