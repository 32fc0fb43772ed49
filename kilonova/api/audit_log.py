"""``/os-instance_usage_audit_log``: which hosts have reported their servers of a period."""

from __future__ import annotations

import datetime as dt
import urllib.parse
from typing import Any

from kilonova.api.schemas import no_query
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.db.database import Tx
from kilonova.notifications import periods
from kilonova.notifications.facts import Period
from kilonova.store import services, usage_audits
from kilonova.store.usage_audits import DONE, Audit
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[Services] = Routes(prefix="/os-instance_usage_audit_log", tag="usage audit log")
RULE = "os_compute_api:os-instance-usage-audit-log:"


_NUMBERS = (
    "num_hosts", "num_hosts_done", "num_hosts_not_run", "num_hosts_running", "total_errors",
    "total_instances",
)  # fmt: skip
_TEXTS = ("overall_status", "period_beginning", "period_ending")
LOG = {
    "hosts_not_run": [str],
    "log": {str: {"state": str, "instances": int, "errors": int, "message": str}},
    **dict.fromkeys(_NUMBERS, int),
    **dict.fromkeys(_TEXTS, str),
}


@ROUTES.get(
    "",
    policy=RULE + "list",
    query=no_query(),
    responses=answers(instance_usage_audit_logs=LOG),
    summary="Audits of the last period",
)
async def index(call: Context) -> dict[str, Any]:
    """The last period that is over."""
    return {"instance_usage_audit_logs": await _log(call, call.clock.now())}


@ROUTES.get(
    "/{before}",
    policy=RULE + "show",
    query=no_query(),
    responses=answers(instance_usage_audit_log=LOG),
    summary="Audits of another period",
)
async def show(call: Context, before: str) -> dict[str, Any]:
    """The last period that was over at a time (``2012-07-05 10:00:00``)."""
    text = urllib.parse.unquote(before)
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            when = dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
        return {"instance_usage_audit_log": await _log(call, when)}
    raise BadRequest(f"Invalid timestamp for date {text[:64]}")


async def _log(call: Context, when: dt.datetime) -> dict[str, Any]:
    period = periods.last(call.app.settings.default.instance_usage_audit_period, when)
    answers = await call.app.cells.gather(_read, period)
    audits = [audit for _, (_, found) in answers.found for audit in found]
    # Nobody is missed where nobody was asked to report.
    expected = call.app.settings.default.instance_usage_audit or bool(audits)
    hosts = sorted({host for _, (known, _) in answers.found for host in known if expected})
    return view(period, hosts, audits)


def _read(tx: Tx, period: Period) -> tuple[list[str], list[Audit]]:
    known = [service.host for service in services.page(tx, binary="nova-compute")]
    return known, usage_audits.page(tx, period.begin, period.end)


def view(period: Period, hosts: list[str], audits: list[Audit]) -> dict[str, Any]:
    """The document about a period."""
    done = [audit for audit in audits if audit.state == DONE]
    missing = sorted(set(hosts) - {audit.host for audit in audits})
    errors = sum(audit.errors for audit in audits)
    whole = len(done) >= len(hosts)
    return {
        "hosts_not_run": missing,
        "log": {
            audit.host: {
                "state": audit.state,
                "instances": audit.task_items,
                "errors": audit.errors,
                "message": audit.message,
            }
            for audit in audits
        },
        "num_hosts": len(hosts),
        "num_hosts_done": len(done),
        "num_hosts_not_run": len(missing),
        "num_hosts_running": len(audits) - len(done),
        "overall_status": f"ALL hosts done. {errors} errors."
        if whole
        else f"{len(done)} of {len(hosts)} hosts done. {errors} errors.",
        "period_beginning": _time(period.begin),
        "period_ending": _time(period.end),
        "total_errors": errors,
        "total_instances": sum(audit.task_items for audit in audits),
    }


def _time(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S")
