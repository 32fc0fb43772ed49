"""``/ext/audit``: what does not match in this cloud, for administrators."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.find import ADMIN
from kilonova.context import Context, Services
from kilonova.domain.agent import CONDUCTOR
from kilonova.web.routes import Routes
from kilonova.web.schema import answers
from kilonova.workflows.audit import AuditReport

ROUTES: Routes[Services] = Routes(prefix="/ext", tag="audit")
SECONDS = 300.0


_REPORT = {"findings": [{"kind": str, "id": str, "sentence": str}], "unseen": [str]}


@ROUTES.get(
    "/audit",
    policy=ADMIN,
    responses=answers(audit=_REPORT),
    summary="Compare servers, allocations, ports, guests, sagas",
)
async def audit(call: Context) -> dict[str, Any]:
    """``findings`` (kind, id, sentence), and what could not be looked at (``unseen``)."""
    report = await call.app.bus.call(CONDUCTOR, "audit", reply=AuditReport, seconds=SECONDS)
    return {"audit": msgspec.to_builtins(report)}
