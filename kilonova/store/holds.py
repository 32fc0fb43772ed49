"""What guests hold of their hosts' cells, CPUs, pages and devices (cell database)."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from kilonova.db.database import Tx
from kilonova.db.tables.cell import compute_nodes, guest_holds
from kilonova.domain.fit.host import Wanted, fit, limits_of, with_guests
from kilonova.domain.fit.shapes import Held, HostShape, NoFit

_H = guest_holds.c


def take(
    tx: Tx,
    server_id: str,
    wanted: Wanted,
    *,
    host: str,
    node: str,
    now: dt.datetime,
    pack: bool = False,
    providers: Mapping[str, Sequence[str]] | None = None,
) -> Held | NoFit:
    """Fit a guest to what the other guests leave of a host, and keep what it got.

    Guests of one host are served one after another, so nothing is given twice. What the guest has
    there already is given again. ``pack`` and ``providers``: see `domain.fit`.
    """
    present = get(tx, server_id, host)
    if present is not None:
        return present
    # The write is the lock; it also tells whoever follows the nodes that this one has changed.
    here = (compute_nodes.c.host == host, compute_nodes.c.node == node)
    tx.execute(compute_nodes.update().where(*here).values(updated_at=now))
    report = tx.execute(sa.select(compute_nodes.c.report).where(*here)).scalar()
    if report is None:
        return NoFit(f"there is no node {node}")
    others = of_hosts(tx, [host]).get(host, ())
    shape = with_guests(report.shape or HostShape(), others)
    if not shape.cells:
        # Nothing can be said of the cells of a host whose driver does not tell them.
        wanted = Wanted(None, wanted.devices)
    limits = limits_of(report.ratios, report.initial_ratios, pack=pack)
    found = fit(shape, wanted, limits, providers=providers)
    if isinstance(found, Held) and found:
        tx.execute(guest_holds.insert().values(server_id=server_id, host=host, held=found))
    return found


def get(tx: Tx, server_id: str, host: str) -> Held | None:
    """What a guest holds of a host."""
    held: Held | None = tx.execute(
        sa.select(_H.held).where(_H.server_id == server_id, _H.host == host)
    ).scalar()
    return held


def of_hosts(tx: Tx, hosts: Collection[str]) -> dict[str, tuple[Held, ...]]:
    """Host → what its guests hold, of hosts with such guests."""
    found: dict[str, list[Held]] = defaultdict(list)
    for host, held in tx.execute(sa.select(_H.host, _H.held).where(_H.host.in_(list(hosts)))):
        found[host].append(held)
    return {host: tuple(held) for host, held in found.items()}


def hand_over(tx: Tx, holder: str, to: str, host: str, *, now: dt.datetime) -> None:
    """Somebody else holds from now on what ``holder`` held of a host; nothing is success.

    What the other held there is given back.
    """
    if get(tx, holder, host) is None:
        return
    leave(tx, to, now=now, host=host)
    tx.execute(
        guest_holds.update().where(_H.server_id == holder, _H.host == host).values(server_id=to)
    )
    tx.execute(compute_nodes.update().where(compute_nodes.c.host == host).values(updated_at=now))


def leave(tx: Tx, server_id: str, *, now: dt.datetime, host: str | None = None) -> None:
    """Give back what a guest holds of a host (of all when None); nothing is success."""
    query = [_H.server_id == server_id]
    if host is not None:
        query.append(_H.host == host)
    hosts = list(tx.execute(sa.select(_H.host).where(*query)).scalars())
    if hosts:
        tx.execute(guest_holds.delete().where(*query))
        tx.execute(
            compute_nodes.update().where(compute_nodes.c.host.in_(hosts)).values(updated_at=now)
        )
