"""``/ext/explain``: why a server found no host, and what would have to be different."""

from __future__ import annotations

from typing import Any

from kilonova.base.errors import NotFound
from kilonova.context import Context, Services
from kilonova.domain.explain import Change, Why
from kilonova.domain.explanation import Explanation
from kilonova.domain.request import Cut
from kilonova.domain.whynot import Obstacle
from kilonova.store import explanations
from kilonova.web.routes import Routes
from kilonova.web.schema import answers

ROUTES: Routes[Services] = Routes(prefix="/ext", tag="explain")
SHOW = "kilonova:explain:show"
HOSTS = "kilonova:explain:hosts"
_FAILED = "The hosts that were chosen did not take the server."


@ROUTES.get(
    "/explain/{name}",
    policy=SHOW,
    responses=answers(explanations=[{"type": "object"}]),
    summary="Why servers found no host",
)
async def explain(call: Context, name: str) -> dict[str, Any]:
    """The explanations of a request (by its id) or of a server; hosts are for administrators."""
    found = await call.app.db.read(explanations.find, name)
    mine = [one for one in found if call.allows(SHOW, _target(one))]
    if not mine:
        raise NotFound(f"No failed placement of {name} is known.")
    return {"explanations": [render(one, hosts=call.allows(HOSTS, _target(one))) for one in mine]}


def _target(one: Explanation) -> dict[str, str]:
    return {"project_id": one.project_id, "user_id": one.user_id}


def render(one: Explanation, *, hosts: bool) -> dict[str, Any]:
    """An explanation as it is shown; ``hosts``: to somebody who may know them."""
    shown = {
        "request_id": one.request_id,
        "server_id": one.server_id,
        "project_id": one.project_id,
        "at": one.at.isoformat(),
        **reasons(one.why or Why(_FAILED), one.cuts, hosts=hosts),
        "failed_hosts": len(one.failures),
    }
    if hosts:
        shown["failures"] = [{"host": f.host, "text": f.text} for f in one.failures]
    return shown


def reasons(why: Why, cuts: tuple[Cut, ...], *, hosts: bool) -> dict[str, Any]:
    """What stands in the way, step by step, and the changes that would help."""
    shown: dict[str, Any] = {
        "reason": why.reason,
        "blame": list(why.blame),
        "steps": [_step(cut, why, hosts=hosts) for cut in cuts],
        "placement": None,
        "changes": [_change(change, hosts=hosts) for change in why.changes],
        "complete": why.complete,
    }
    if why.placement is not None:
        shown["placement"] = {
            "providers": why.placement.trees,
            "left": why.placement.left,
            "obstacles": [_obstacle(one, hosts=hosts) for one in why.placement.obstacles],
        }
    return shown


def _step(cut: Cut, why: Why, *, hosts: bool) -> dict[str, Any]:
    if hosts:
        return {"step": cut.step, "before": cut.before, "left": cut.left, "hosts": cut.reasons}
    # Before there are any hosts the step is a sentence, which may name what was asked for.
    step = cut.step if cut.before else why.reason
    return {"step": step, "before": cut.before, "left": cut.left}


def _obstacle(one: Obstacle, *, hosts: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "constraint": str(one.constraint),
        "group": one.group,
        "names": list(one.names),
        "asked": one.asked,
        "most": one.most,
        "fits": one.fits,
        "removed": one.removed,
        "would_help": one.would_help,
    }
    if hosts:
        shown["providers"] = list(one.roots)
    return shown


def _change(change: Change, *, hosts: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": change.kind,
        "text": change.text,
        "who": change.who,
        "args": change.args,
    }
    if change.parts:
        shown["parts"] = [_change(part, hosts=hosts) for part in change.parts]
    if hosts and change.host:
        shown["host"] = change.host
    return shown
