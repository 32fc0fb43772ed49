"""Usage audits: after each period every host's servers are told of, by ``instance.exists``."""

from __future__ import annotations

import logging

from kilonova.base.clock import Clock
from kilonova.db.cells import Cell
from kilonova.db.database import Tx
from kilonova.notifications import periods
from kilonova.notifications.facts import Period
from kilonova.store import services, usage_audits
from kilonova.store.noting import note, notes
from kilonova.store.usage_audits import DONE, Audit

log = logging.getLogger(__name__)


class UsageAudits:
    """Audits the hosts of one cell; call ``reconcile`` now and then.

    ``period``: as in ``[DEFAULT] instance_usage_audit_period``. A host's notifications and the
    record that it is done are one transaction.
    """

    def __init__(self, *, cell: Cell, clock: Clock, period: str) -> None:
        self._cell = cell
        self._clock = clock
        self._period = period

    async def reconcile(self) -> int:
        """Audit the hosts that have not reported the last period; how many."""
        period = periods.last(self._period, self._clock.now())
        hosts = await self._cell.db.read(_missing, period)
        for host in hosts:
            number = await self._cell.db.run(_audit, host, period)
            log.info("usage of host %s until %s: %d servers told", host, period.end, number)
        return len(hosts)


def _missing(tx: Tx, period: Period) -> list[str]:
    done = {audit.host for audit in usage_audits.page(tx, period.begin, period.end)}
    known = {service.host for service in services.page(tx, binary="nova-compute")}
    return sorted(known - done)


def _audit(tx: Tx, host: str, period: Period) -> int:
    found = usage_audits.active(tx, host, period.begin, period.end)
    if notes(tx) is not None:
        for server in found:
            note(tx, "instance.exists", server, period=period)
    told = f"Instance usage audit ran for host {host}, {len(found)} instances."
    audit = Audit(host, DONE, told, len(found), 0)
    usage_audits.add(tx, period.begin, period.end, audit)
    return len(found)
