"""The first content of a cloud's identity service, written again and again without harm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from kilonova import __version__
from kilonova.db.database import Tx
from kilonova.embedded.identity.app import Identity
from kilonova.embedded.identity.records import (
    DEFAULT_DOMAIN,
    EVERYWHERE,
    Assignment,
    Endpoint,
    Project,
    Region,
    Role,
    Service,
    User,
)
from kilonova.embedded.identity.store import catalog, projects, roles, rows, users

_ROLES = ("admin", "manager", "member", "reader", "service")
_IMPLIED = (("admin", "manager"), ("manager", "member"), ("member", "reader"))
_INTERFACES = ("public", "internal", "admin")
SERVICE_USERS = ("nova", "placement", "glance", "neutron", "cinder")


class _Facts(msgspec.Struct, frozen=True):
    """What is to be there: users with hash and project, the catalog."""

    hashes: Mapping[str, str]
    region: str
    endpoints: Sequence[tuple[str, str, str]]


async def bootstrap(
    app: Identity,
    admin_password: str,
    region: str,
    endpoints: Sequence[tuple[str, str, str]],
    *,
    service_password: str | None = None,
    demo_password: str | None = None,
    service_users: Sequence[str] = SERVICE_USERS,
) -> None:
    """Make sure the domain, projects, users, roles and the catalog of a cloud are there.

    ``endpoints``: ``(type, name, url)``; every URL is registered for all three interfaces. Project
    ``admin`` with user ``admin`` (role admin, also on the system), ``service`` with the service
    users (roles admin and service), ``demo`` with user ``demo`` (role member). The service users'
    and demo's passwords default to the administrator's. Doing it again changes only what differs:
    passwords and URLs are brought to the given ones, everything else is left as it is.
    """
    wanted = {"admin": admin_password, "demo": demo_password or admin_password}
    wanted |= dict.fromkeys(service_users, service_password or admin_password)
    catalogue = (region, *endpoints)
    present, revision = await app.db.read(_present, list(wanted))
    before = await asyncio.to_thread(_read, app)
    if before.passwords == _passwords(app, wanted, present):
        for name, stored in present.items():
            app.passwords.know(wanted[name], stored)
        if before.content == _content(app, catalogue, revision):
            return
        hashes = present
    else:
        hashes = await _digests(app, wanted, present)
    await app.change(_write, app, _Facts(hashes, region, tuple(endpoints)), app.now())
    present, revision = await app.db.read(_present, list(wanted))
    after = _Note(_passwords(app, wanted, present), _content(app, catalogue, revision))
    await asyncio.to_thread(_keep, app, after)


class _Note(msgspec.Struct, frozen=True):
    """Keyed digests of what was there when this was last done, to see that nothing has changed.

    Hashing the passwords and looking for every row would be a quarter of a start.
    """

    passwords: str = ""
    content: str = ""


def _passwords(app: Identity, wanted: Mapping[str, str], present: Mapping[str, str]) -> str:
    pairs = [(name, password, present.get(name)) for name, password in sorted(wanted.items())]
    return app.keys.digest(msgspec.json.encode(pairs))


def _content(app: Identity, catalogue: Sequence[object], revision: int) -> str:
    return app.keys.digest(msgspec.json.encode([__version__, catalogue, revision]))


def _read(app: Identity) -> _Note:
    try:
        return _Note(*_file(app).read_text().split())
    except (OSError, ValueError, TypeError):
        return _Note()


def _keep(app: Identity, note: _Note) -> None:
    # Without it the next start takes a little longer, no more.
    with contextlib.suppress(OSError):
        file = _file(app)
        file.touch(mode=0o600)
        file.write_text(f"{note.passwords}\n{note.content}\n")


def _file(app: Identity) -> Path:
    return app.settings.key_dir / "bootstrapped"


async def _digests(
    app: Identity, wanted: Mapping[str, str], present: Mapping[str, str]
) -> dict[str, str]:
    """One hash for each password, not for each user: hashing is what takes time at a start."""

    async def digest(password: str) -> tuple[str, str]:
        names = [name for name, other in wanted.items() if other == password]
        for stored in {present[name] for name in names if present.get(name)}:
            if await app.passwords.check(password, stored):
                return password, stored
        return password, await app.passwords.hash(password)

    made = dict(await asyncio.gather(*(digest(one) for one in set(wanted.values()))))
    return {name: made[password] for name, password in wanted.items()}


def _present(tx: Tx, names: list[str]) -> tuple[dict[str, str], int]:
    """The hashes of the users that are there, and how many changes there were."""
    found = {name: users.by_name(tx, name, DEFAULT_DOMAIN) for name in names}
    hashes = {name: user.password_hash or "" for name, user in found.items() if user is not None}
    return hashes, rows.revision(tx)


def _write(tx: Tx, app: Identity, facts: _Facts, now: int) -> None:
    if projects.find(tx, DEFAULT_DOMAIN) is None:
        projects.create(tx, _project(DEFAULT_DOMAIN, "Default", domain=True))
    role_ids = {name: _role(tx, app, name) for name in _ROLES}
    for prior, implied in _IMPLIED:
        roles.imply(tx, role_ids[prior], role_ids[implied])
    place = {name: _home(tx, app, name) for name in ("admin", "service", "demo")}
    for name, digest in facts.hashes.items():
        home = name if name in ("admin", "demo") else "service"
        user_id = _user(tx, app, name, digest, now)
        given = {"admin": ["admin"], "demo": ["member"]}.get(name, ["admin", "service"])
        for role in given:
            item = Assignment("user", user_id, "project", place[home], role_ids[role])
            roles.grant(tx, item)
        if name == "admin":
            roles.grant(tx, Assignment("user", user_id, "system", EVERYWHERE, role_ids["admin"]))
            domain = Assignment("user", user_id, "domain", DEFAULT_DOMAIN, role_ids["admin"])
            roles.grant(tx, domain)
    if not catalog.has_region(tx, facts.region):
        catalog.create_region(tx, Region(facts.region, None, "", {}))
    for kind, name, url in facts.endpoints:
        _endpoints(tx, app, facts.region, kind, name, url)


def _project(project_id: str, name: str, *, domain: bool = False) -> Project:
    return Project(
        id=project_id,
        name=name,
        domain_id="" if domain else DEFAULT_DOMAIN,
        parent_id=None if domain else DEFAULT_DOMAIN,
        description="",
        enabled=True,
        is_domain=domain,
        options={},
        extra={},
        valid_from=0,
    )


def _home(tx: Tx, app: Identity, name: str) -> str:
    found = projects.by_name(tx, name, DEFAULT_DOMAIN)
    if found is None:
        found = _project(app.ids.hex(), name)
        projects.create(tx, found)
    return found.id


def _role(tx: Tx, app: Identity, name: str) -> str:
    found = roles.by_name(tx, name)
    if found is None:
        found = Role(app.ids.hex(), name, "", "", {"immutable": True}, {})
        roles.create(tx, found)
    return found.id


def _user(tx: Tx, app: Identity, name: str, digest: str, now: int) -> str:
    found = users.by_name(tx, name, DEFAULT_DOMAIN)
    if found is None:
        found = User(
            id=app.ids.hex(),
            name=name,
            domain_id=DEFAULT_DOMAIN,
            default_project_id=None,
            enabled=True,
            options={},
            extra={},
            password_hash=digest,
            created_at=now,
            valid_from=0,
        )
        users.create(tx, found)
    elif found.password_hash != digest:
        changed = msgspec.structs.replace(found, password_hash=digest, valid_from=now)
        users.update(tx, changed)
    return found.id


def _endpoints(tx: Tx, app: Identity, region: str, kind: str, name: str, url: str) -> None:
    found = catalog.services(tx, [rows.Where("type", kind), rows.Where("name", name)])
    if found:
        service = found[0]
    else:
        service = Service(app.ids.hex(), kind, name, True, "", {})
        catalog.create_service(tx, service)
    where = [rows.Where("service_id", service.id), rows.Where("region_id", region)]
    present = {item.interface: item for item in catalog.endpoints(tx, where)}
    for interface in _INTERFACES:
        item = present.get(interface)
        if item is None:
            item = Endpoint(app.ids.hex(), service.id, region, interface, url, True, {})
            catalog.create_endpoint(tx, item)
        elif item.url != url:
            catalog.update_endpoint(tx, msgspec.structs.replace(item, url=url))
