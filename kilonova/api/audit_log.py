"""``/os-instance_usage_audit_log``: which hosts have reported their servers of a period.

Where servers are in cells Nova asks only the database beside its API (cell0) for hosts and reports;
there are neither, and its clients expect the empty log.
"""

from __future__ import annotations

import datetime as dt
import urllib.parse
from typing import Any

from kilonova.api.schemas import no_query
from kilonova.base.errors import BadRequest
from kilonova.context import Context, Services
from kilonova.web.routes import Routes

ROUTES: Routes[Services] = Routes(prefix="/os-instance_usage_audit_log", tag="usage audit log")
RULE = "os_compute_api:os-instance-usage-audit-log:"


@ROUTES.get("", policy=RULE + "list", query=no_query(), summary="Audits of the last whole month")
async def index(call: Context) -> dict[str, Any]:
    """The last period that is over."""
    return {"instance_usage_audit_logs": _log(call.clock.now())}


@ROUTES.get("/{before}", policy=RULE + "show", query=no_query(), summary="Audits of another month")
async def show(call: Context, before: str) -> dict[str, Any]:
    """The last period that was over at a time (``2012-07-05 10:00:00``)."""
    text = urllib.parse.unquote(before)
    for form in ("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            when = dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC)
        except ValueError:
            continue
        return {"instance_usage_audit_log": _log(when)}
    raise BadRequest(f"Invalid timestamp for date {text[:64]}")


def _log(when: dt.datetime) -> dict[str, Any]:
    begin, end = month_before(when)
    return {
        "hosts_not_run": [],
        "log": {},
        "num_hosts": 0,
        "num_hosts_done": 0,
        "num_hosts_not_run": 0,
        "num_hosts_running": 0,
        "overall_status": "ALL hosts done. 0 errors.",
        "period_beginning": _time(begin),
        "period_ending": _time(end),
        "total_errors": 0,
        "total_instances": 0,
    }


def month_before(when: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """The last month that is over at that time: its begin and its end."""
    end = when.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (end - dt.timedelta(days=1)).replace(day=1), end


def _time(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S")
