"""Whose limits count for a project, what it uses, and whether more servers fit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec

from kilonova.context import Context
from kilonova.db.database import Tx
from kilonova.domain import quotas as words
from kilonova.domain.guest import FlavorSpec, ImageRef
from kilonova.domain.quotas import NETWORK, UNLIMITED, Counted, Over, OverQuota, Rules
from kilonova.domain.request import RequestSpec
from kilonova.domain.server import Server
from kilonova.scheduler.demand import demand
from kilonova.store import mappings
from kilonova.store import quotas as store
from kilonova.store.quotas import Usage

T = TypeVar("T")

# Our clock and that of another API process may differ by so much.
_SKEW = dt.timedelta(seconds=5)


async def load(
    call: Context,
    project_id: str,
    *,
    user_id: str = "",
    counting: bool = False,
    fresh: bool = False,
) -> Rules:
    """The rules for a project. ``counting``: with what Placement says is held, if that counts.

    ``fresh``: do not trust limits remembered for a while. Unavailable when a neighbour that must
    be asked does not answer.
    """
    settings = call.app.settings
    section = settings.quota
    rules = Rules(
        driver=section.driver,
        defaults={**section.limits(), **dict.fromkeys(NETWORK, UNLIMITED)},
        listed=frozenset(section.unified_limits_resource_list),
        strategy=section.unified_limits_resource_strategy,
        pcpu_as_vcpu=settings.workarounds.unified_limits_count_pcpu_as_vcpu,
    )
    identity = call.app.identity
    if rules.unified and identity is not None:
        found = await identity.limits(project_id, fresh=fresh)
        rules = msgspec.structs.replace(
            rules, registered=dict(found.registered), own=dict(found.own)
        )
    placed = rules.unified or (rules.stored and section.count_usage_from_placement)
    if counting and placed:
        rules = msgspec.structs.replace(rules, counted=await _count(call, project_id, user_id))
    return rules


async def within(
    call: Context,
    project_id: str,
    work: Callable[[Rules], Awaitable[T]],
    *,
    user_id: str = "",
    counting: bool = False,
) -> T:
    """What ``work`` makes of the rules; refused by remembered limits it gets fresh ones."""
    rules = await load(call, project_id, user_id=user_id, counting=counting)
    try:
        return await work(rules)
    except OverQuota:
        if not rules.unified:
            raise
        again = await load(call, project_id, user_id=user_id, counting=counting, fresh=True)
        if (again.registered, again.own) == (rules.registered, rules.own):
            raise
        return await work(again)


async def _count(call: Context, project_id: str, user_id: str) -> Counted | None:
    usages = call.app.usages
    if usages is None:
        return None
    # In this order a server is perhaps counted twice, never left out.
    since = call.clock.now() - _SKEW
    pending = await call.app.db.read(store.unplaced, project_id)
    project = _summed(await usages.usages(project_id))
    user = _summed(await usages.usages(project_id, user_id)) if user_id else {}
    return Counted(project, user, since, frozenset(pending))


def _summed(usages: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for held in usages.values():
        for name, amount in held.items():
            if name != "consumer_count":
                found[name] = found.get(name, 0) + amount
    return found


def limits(
    tx: Tx, rules: Rules, project_id: str, user_id: str = "", *, shown: bool = False
) -> dict[str, int]:
    """Resource → limit of a project, or of one user in it. ``shown``: as the API tells them."""
    if rules.stored:
        return store.limits(tx, rules.defaults, project_id, user_id)
    return rules.elsewhere(shown=shown)


def class_limits(tx: Tx, rules: Rules, name: str = "default") -> dict[str, int]:
    """Resource → limit of a quota class."""
    if rules.stored:
        return store.class_limits(tx, rules.defaults, name)
    return msgspec.structs.replace(rules, own={}).elsewhere(shown=True)


def usage(tx: Tx, rules: Rules, project_id: str, user_id: str | None = None) -> Usage:
    """Servers, cores and memory in use; what Placement counted where that counts."""
    counted = rules.counted
    if counted is None:
        return store.usage(tx, project_id, user_id)
    late = store.late(tx, project_id, counted.since, counted.pending, user_id=user_id)
    held = counted.user if user_id is not None else counted.project
    servers = store.usage(tx, project_id, user_id).instances
    cores = held.get("VCPU", 0) + (
        held.get("PCPU", 0) if not rules.unified or rules.pcpu_as_vcpu else 0
    )
    return Usage(servers, cores + late.cores, held.get("MEMORY_MB", 0) + late.ram)


def fit(
    tx: Tx,
    rules: Rules,
    *,
    project_id: str,
    user_id: str,
    flavor: FlavorSpec,
    image: ImageRef | None,
    least: int,
    most: int,
    locking: bool = True,
) -> int:
    """How many servers of that flavor may still be made, at most ``most``; OverQuota.

    Takes the project's lock, so that the answer holds until the transaction ends, unless it is
    only asked for (``locking`` False).
    """
    if locking:
        store.lock(tx, project_id)
    if rules.unified:
        return _fit_unified(tx, rules, project_id, amounts(flavor, image), least=least, most=most)
    if not rules.stored:
        return most
    checks = _bounds(tx, rules, project_id, user_id)
    return store.room(
        checks, vcpus=flavor.vcpus, memory_mb=flavor.memory_mb, least=least, most=most
    )


def amounts(flavor: FlavorSpec, image: ImageRef | None) -> dict[str, int]:
    """Resource class → amount that one server of the flavor takes."""
    asked = RequestSpec((), "", "", flavor, image, boot_from_volume=image is None)
    found: dict[str, int] = {}
    for group in demand(asked).groups:
        for name, amount in group.resources.items():
            found[name] = found.get(name, 0) + amount
    return found


def _fit_unified(
    tx: Tx,
    rules: Rules,
    project_id: str,
    sizes: Mapping[str, int],
    *,
    least: int,
    most: int,
    servers: int = 1,
) -> int:
    each = {f"class:{name}": amount for name, amount in sizes.items()}
    if servers:
        each = {"servers": servers, **each}
    used = _used(tx, rules, project_id, frozenset(sizes))
    allowed = most
    for name, amount in each.items():
        limit = rules.limit(name)
        if limit != UNLIMITED:
            allowed = min(allowed, max(limit - used.get(name, 0), 0) // amount)
    if allowed < least:
        over = [
            Over(name, limit, used.get(name, 0), amount * least)
            for name, amount in each.items()
            if (limit := rules.limit(name)) != UNLIMITED
            and used.get(name, 0) + amount * least > limit
        ]
        raise words.unified_exceeded(project_id, over)
    return allowed


def _used(tx: Tx, rules: Rules, project_id: str, classes: frozenset[str]) -> dict[str, int]:
    held = dict(rules.counted.project) if rules.counted is not None else {}
    if rules.counted is not None:
        for flavor, image in store.late_flavors(
            tx, project_id, rules.counted.since, rules.counted.pending
        ):
            for name, amount in amounts(flavor, image).items():
                held[name] = held.get(name, 0) + amount
    if rules.pcpu_as_vcpu and "PCPU" not in classes:
        held["VCPU"] = held.get("VCPU", 0) + held.get("PCPU", 0)
    servers = store.usage(tx, project_id).instances
    return {"servers": servers, **{f"class:{name}": amount for name, amount in held.items()}}


async def check_growth(call: Context, server: Server, flavor: FlavorSpec) -> None:
    """OverQuota when a server may not change to a flavor."""

    async def look(rules: Rules) -> None:
        await call.app.db.run(
            grow,
            rules,
            project_id=server.project_id,
            user_id=server.user_id,
            old=server.flavor,
            new=flavor,
            image=server.local_image,
        )

    await within(call, server.project_id, look, user_id=server.user_id, counting=True)


async def check_return(call: Context, server: Server) -> None:
    """OverQuota when a server that holds nothing on any host may not come back to one.

    Where rows of ours count it was counted all the time.
    """

    async def look(rules: Rules) -> None:
        if rules.counted is not None:
            await call.app.db.run(_come_back, rules, server)

    await within(call, server.project_id, look, user_id=server.user_id, counting=True)


async def take_back(call: Context, server: Server) -> bool:
    """Count a soft-deleted server again; False when it counts already. OverQuota.

    Of what Placement counts it held everything all the time: only the number of servers grows.
    """

    async def look(rules: Rules) -> bool:
        rows = rules.stored and not call.app.settings.quota.count_usage_from_placement
        return await call.app.db.run(_take_back, rules, server, rows)

    return await within(call, server.project_id, look, user_id=server.user_id)


def _take_back(tx: Tx, rules: Rules, server: Server, rows: bool) -> bool:
    project_id, user_id = server.project_id, server.user_id
    store.lock(tx, project_id)
    if not mappings.is_aside(tx, server.id):
        return False
    more = {"instances": 1}
    if rows:
        more |= {"cores": server.flavor.vcpus, "ram": server.flavor.memory_mb}
    if rules.unified:
        _fit_unified(tx, rules, project_id, {}, least=1, most=1)
    elif rules.stored:
        _fit_more(tx, rules, project_id, user_id, more)
    mappings.set_aside(tx, server.id, aside=False)
    return True


def _come_back(tx: Tx, rules: Rules, server: Server) -> None:
    store.lock(tx, server.project_id)
    if rules.unified:
        sizes = amounts(server.flavor, server.local_image)
        _fit_unified(tx, rules, server.project_id, sizes, least=1, most=1, servers=0)
        return
    more = {"cores": server.flavor.vcpus, "ram": server.flavor.memory_mb}
    _fit_more(tx, rules, server.project_id, server.user_id, more)


def grow(
    tx: Tx,
    rules: Rules,
    *,
    project_id: str,
    user_id: str,
    old: FlavorSpec,
    new: FlavorSpec,
    image: ImageRef | None,
) -> None:
    """OverQuota when a server may not change from one flavor to another; takes the lock.

    Rows of ours count what grows; with unified limits the new flavor is held besides the old one
    until the change is confirmed.
    """
    store.lock(tx, project_id)
    if rules.unified:
        _fit_unified(tx, rules, project_id, amounts(new, image), least=1, most=1)
    more = {"cores": new.vcpus - old.vcpus, "ram": new.memory_mb - old.memory_mb}
    if rules.stored and max(more.values()) > 0:
        _fit_more(tx, rules, project_id, user_id, more)


def _fit_more(tx: Tx, rules: Rules, project_id: str, user_id: str, more: Mapping[str, int]) -> None:
    over: dict[str, tuple[int, int]] = {}
    for bounds, used in _bounds(tx, rules, project_id, user_id):
        for name, amount in more.items():
            there, limit = getattr(used, name), bounds[name]
            if amount > 0 and limit != UNLIMITED and there + amount > limit:
                over.setdefault(name, (there, limit))
    if over:
        raise words.exceeded(over, more)


def _bounds(
    tx: Tx, rules: Rules, project_id: str, user_id: str
) -> list[tuple[dict[str, int], Usage]]:
    """Limits and use of the project, and of the user who has limits of their own."""
    of_project = store.limits(tx, rules.defaults, project_id)
    of_user = store.limits(tx, rules.defaults, project_id, user_id)
    found = [(of_project, usage(tx, rules, project_id))]
    if of_user != of_project:
        found.append((of_user, usage(tx, rules, project_id, user_id)))
    return found
