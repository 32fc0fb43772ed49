"""Writes notifications into the outbox, in the transaction of what they tell of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kilonova.base import log as logs
from kilonova.base.clock import Clock
from kilonova.base.ids import Ids
from kilonova.config.settings import Settings
from kilonova.db.database import Tx
from kilonova.domain.guest import FlavorSpec, Nic
from kilonova.domain.resources import Aggregate, Group, KeyPair
from kilonova.domain.server import EMPTY, Server
from kilonova.notifications import legacy, periods, values
from kilonova.notifications.envelope import message
from kilonova.notifications.facts import (
    AggregateFacts,
    Facts,
    FlavorFacts,
    GroupFacts,
    Period,
    ServerFacts,
    Who,
)
from kilonova.notifications.payloads import payload
from kilonova.notifications.table import API, COMPUTE, CONDUCTOR, TABLE, Notification
from kilonova.store import block_devices, servers, shares
from kilonova.store.outbox import UNVERSIONED, VERSIONED, New, put

SHOWN = frozenset(
    {
        "name",
        "description",
        "hostname",
        "metadata",
        "access_ip_v4",
        "access_ip_v6",
        "auto_disk_config",
        "locked_by",
    }
)
"""Fields of a server whose change is told where changes of state are told."""
CARDS_KEPT = 2048


class Writer:
    """``store.noting.Notes``: one INSERT for a notification, in both forms if both are wanted.

    ``binary`` is the daemon it works in. A server's cards are read once and known until its
    addresses change.
    """

    def __init__(self, settings: Settings, *, binary: str, clock: Clock, ids: Ids) -> None:
        section = settings.notifications
        self._forms = (
            section.notification_format != "unversioned",
            section.notification_format != "versioned",
        )
        self._level = section.default_level
        self._on_change = section.notify_on_state_change
        self._bdms = section.bdms_in_notifications
        self._shares = section.include_share_mapping
        self._period = settings.default.instance_usage_audit_period
        periods.parse(self._period)
        self._host = settings.default.host
        self._binary = binary
        self._clock = clock
        self._ids = ids
        self._cards: dict[str, tuple[bytes, tuple[Nic, ...]]] = {}

    # -- Notes -----------------------------------------------------------------------------------

    def note(self, tx: Tx, event: str, subject: Any, **more: Any) -> None:
        """See ``store.noting.note``. Events that are not in the table are nobody's concern."""
        if event not in TABLE:
            return
        row = TABLE.get(event)
        facts: Facts | None
        if isinstance(subject, str | Server):
            facts = self._server(tx, row, subject, **more)
        else:
            facts = facts_of(subject, **more)
        if facts is not None:
            self._put(tx, [(row, facts)])

    def server_changed(
        self, tx: Tx, before: Server | None, after: Server, changed: frozenset[str]
    ) -> None:
        """``instance.update``, when changes of state are to be told and this is one."""
        if self._on_change is None:
            return
        new_state = before is None or before.vm_state != after.vm_state
        new_task = before is not None and before.task_state != after.task_state
        told = new_state or (new_task and self._on_change == "vm_and_task_state")
        if told or (before is not None and self._shown(before, after, changed)):
            self.note(tx, "instance.update", after, before=before)

    @staticmethod
    def _shown(before: Server, after: Server, changed: frozenset[str]) -> bool:
        return any(getattr(before, name) != getattr(after, name) for name in changed & SHOWN)

    # -- facts -----------------------------------------------------------------------------------

    def _server(
        self, tx: Tx, row: Notification, subject: Server | str, **more: Any
    ) -> ServerFacts | None:
        if isinstance(subject, str):
            found = servers.get(tx, subject, deleted=True)
            if found is None:
                return None
            subject = found
        if row.payload in ("InstanceUpdatePayload", "InstanceExistsPayload"):
            more.setdefault("period", self.current())
        if row.payload == "InstanceUpdatePayload":
            more.setdefault("before", subject)
        if row.payload == "InstanceCreatePayload" and subject.key_name:
            more["keys"] = self._keys(tx, subject)
        if self._bdms and subject.volumes:
            more["disks"] = tuple(block_devices.of_server(tx, subject.id))
        if self._shares and subject.host:
            more["shares"] = tuple(shares.of_server(tx, subject.id))
        return ServerFacts(server=subject, who=who(), nics=self._nics(tx, subject), **more)

    def current(self) -> Period:
        """The audit period that is under way."""
        return periods.current(self._period, self._clock.now())

    def _nics(self, tx: Tx, server: Server) -> tuple[Nic, ...]:
        shown = bytes(server.addresses)
        if shown == bytes(EMPTY):
            return ()
        known = self._cards.get(server.id)
        if known is not None and known[0] == shown:
            return known[1]
        found = servers.get_nics(tx, server.id)
        if len(self._cards) >= CARDS_KEPT:
            self._cards.clear()
        self._cards[server.id] = (shown, found)
        return found

    def _keys(self, tx: Tx, server: Server) -> tuple[KeyPair, ...]:
        private = servers.private(tx, server.id)
        if private is None or not private.public_key:
            return ()
        text, kind = private.public_key, private.key_type
        mark = values.fingerprint(text, kind)
        name = server.key_name or ""
        return (KeyPair(0, server.user_id, name, kind, mark, text, server.created_at),)

    # -- rows ------------------------------------------------------------------------------------

    def put_all(self, tx: Tx, event: str, facts: list[Facts]) -> None:
        """Write many notifications of one event at once."""
        self._put(tx, [(TABLE.get(event), each) for each in facts])

    def _put(self, tx: Tx, told: list[tuple[Notification, Facts]]) -> None:
        rows = []
        for row, facts in told:
            make = functools.partial(self._message, facts)
            if self._forms[0]:
                rows.append(self._versioned(row, facts, make))
            if self._forms[1] and row.legacy is not None:
                rows.append(self._unversioned(row, facts, make))
        put(tx, rows)

    def _versioned(self, row: Notification, facts: Facts, make: Callable[..., str]) -> New:
        level = "ERROR" if row.error else "INFO"
        text = make(
            publisher=f"{self._source(row, facts)}:{self._where(row, facts)}",
            event=row.event,
            priority=level,
            payload=payload(row.payload, facts),
        )
        return New(VERSIONED, row.event, level.lower(), text)

    def _unversioned(self, row: Notification, facts: Facts, make: Callable[..., str]) -> New:
        level = "ERROR" if row.error else self._level
        name = row.legacy or ""
        text = make(
            publisher=f"{row.legacy_source}.{legacy.publisher(facts, self._host)}",
            event=name,
            priority=level,
            payload=legacy.payload(row.event, facts),
        )
        return New(UNVERSIONED, name, level.lower(), text)

    def _message(self, facts: Facts, **parts: Any) -> str:
        asked = getattr(facts, "who", None) or who()
        return message(id=self._ids.uuid(), now=self._clock.now(), who=asked, **parts)

    def _source(self, row: Notification, facts: Facts) -> str:
        """Changes of a server's row are told by who made them: the API, or who works for it."""
        if row.event == "instance.update" and isinstance(facts, ServerFacts):
            if self._binary == API:
                return API
            return COMPUTE if facts.server.host else CONDUCTOR
        if row.payload == "ServiceStatusPayload":
            return getattr(facts, "binary", row.source)
        return row.source

    def _where(self, row: Notification, facts: Facts) -> str:
        if row.source == COMPUTE:
            if isinstance(facts, ServerFacts):
                host = self._host if self._source(row, facts) == API else facts.server.host
            else:
                host = getattr(facts, "host", None)
            return host or self._host
        return self._host


def facts_of(subject: Any, **more: Any) -> Any:
    """Facts about a row of the store; what is facts already stays."""
    if isinstance(subject, FlavorSpec):
        return FlavorFacts(subject, **more)
    if isinstance(subject, Aggregate):
        made = AggregateFacts.of(subject, **more)
        # One that is being made has no number, and nothing in it.
        return made if subject.id else AggregateFacts(made.uuid, made.name)
    if isinstance(subject, Group):
        return GroupFacts(subject, **more)
    return subject


def who() -> Who:
    """Who asks, of the request or saga this runs for."""
    user, _, project = logs.who.get().partition(" ")
    return Who(logs.request_id.get(), user, "" if project == "-" else project)
