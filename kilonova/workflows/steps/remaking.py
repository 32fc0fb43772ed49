"""Steps around a guest that is made anew, rescued, or given another password."""

from __future__ import annotations

import msgspec

from kilonova.base.errors import NotFound
from kilonova.db.database import Tx
from kilonova.domain.describe import with_properties
from kilonova.domain.guest import GuestSpec, ImageRef, PowerState
from kilonova.domain.request import RequestSpec, request_of
from kilonova.domain.sagas import Former
from kilonova.domain.server import BuildSpec, Server
from kilonova.domain.states import VmState
from kilonova.notifications.facts import TaskFacts
from kilonova.store import actions, block_devices, mappings, pending, servers
from kilonova.store.noting import note
from kilonova.store.pending import Pending
from kilonova.workflows import telling
from kilonova.workflows.engine import accept as engine
from kilonova.workflows.engine import journal
from kilonova.workflows.engine.errors import ErrorInfo
from kilonova.workflows.engine.steps import remote, transaction
from kilonova.workflows.steps.placing import NoValidHost, devices_of, tell_choice
from kilonova.workflows.steps.records import end_action, fault, find_place
from kilonova.workflows.visible import REBUILD_ASKED
from kilonova.workflows.world import Env

TRAIT = "trait:"


# -- whether the host does for another image -------------------------------------------------------


@remote(seconds=180)
async def check_host(env: Env, server_id: str, image: ImageRef | None) -> None:
    """Ask the scheduler whether the server's host does for an image (None: that of its row), and
    Placement whether what the server holds has the traits the image wants; NoValidHost."""
    place = await find_place(env, server_id)
    if place.cell_id is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    server = await env.world.cells.get(place.cell_id).db.read(servers.get, server_id)
    if server is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    if image is not None:
        server = msgspec.structs.replace(server, image=image)
    spec = await env.world.db.read(mappings.find_spec, server_id) or BuildSpec()
    asked = _request(env, server, spec)
    chosen = await env.world.select(asked)
    await tell_choice(env, asked, found=bool(chosen.servers))
    if not chosen.servers:
        raise NoValidHost("No valid host was found. There are not enough hosts available.")
    await _check_traits(env, server)


def _request(env: Env, server: Server, spec: BuildSpec) -> RequestSpec:
    asked = request_of(
        server, spec, boot_from_volume=server.from_volume, devices=devices_of(env, server)
    )
    return msgspec.structs.replace(
        asked,
        force_host=None,
        force_node=None,
        requested_host=server.host,
        requested_node=server.node,
        ignore_hosts=(),
        rebuild=True,
    )


async def _check_traits(env: Env, server: Server) -> None:
    properties = server.image.properties if server.image is not None else {}
    wanted = {
        name.removeprefix(TRAIT): word
        for name, word in properties.items()
        if name.startswith(TRAIT) and word in ("required", "forbidden")
    }
    if not wanted:
        return
    held = await env.world.placement.allocations_of(server.id)
    there: set[str] = set()
    for provider in held.allocations:
        there |= await env.world.placement.traits(provider)
    for trait, word in wanted.items():
        if (trait in there) != (word == "required"):
            raise NoValidHost(
                "No valid host was found. Image traits cannot be satisfied by the current "
                "resource provider. Either specify a different image during rebuild or create a "
                "new server with the specified image."
            )


@transaction(db="own")
def schedule_rebuild(tx: Tx, env: Env, server_id: str) -> None:
    """The server may be made anew where it is."""
    now, asked = env.clock.now(), env.asked.request_id
    actions.start_event(tx, server_id, asked, REBUILD_ASKED, now=now)
    actions.finish_event(tx, server_id, asked, REBUILD_ASKED, now=now)
    note(tx, "instance.rebuild_scheduled", server_id)


@transaction(db="api")
def keep_request(tx: Tx, _env: Env, server_id: str, image: ImageRef | None) -> None:
    """What was asked for when the server was made names its image of now."""
    spec = mappings.find_spec(tx, server_id)
    if spec is not None:
        mappings.save_spec(tx, server_id, msgspec.structs.replace(spec, image=image))


# -- rebuild ---------------------------------------------------------------------------------------


@transaction(db="own")
def renew_disks(tx: Tx, env: Env, server_id: str) -> None:
    """The local root disk is one of the server's image by now."""
    server = servers.get(tx, server_id)
    if server is None or server.from_volume:
        return
    present = block_devices.of_server(tx, server_id)
    wanted = [
        msgspec.structs.replace(disk, image=server.image)
        if disk.role == "root" and disk.source == "image"
        else disk
        for disk in present
    ]
    if wanted != list(present):
        servers.set_disks(tx, server_id, wanted, now=env.clock.now())


@remote()
async def describe_anew(env: Env, server_id: str) -> GuestSpec:
    """The guest to be made, with password and files."""
    place = await find_place(env, server_id)
    if place.cell_id is None or place.guest is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    inside = await env.world.cells.get(place.cell_id).db.read(pending.read, server_id)
    about = msgspec.structs.replace(
        place.guest.metadata, admin_pass=inside.admin_pass, files=inside.files
    )
    return msgspec.structs.replace(place.guest, metadata=about)


@transaction(db="own")
def finish_rebuild(tx: Tx, env: Env, server_id: str, stopped: bool) -> None:
    """The server is new: as if it had just been launched."""
    _forget(tx, env, server_id)
    now = env.clock.now()
    server = servers.finish(
        tx,
        server_id,
        VmState.STOPPED if stopped else VmState.ACTIVE,
        power=PowerState.SHUTDOWN if stopped else PowerState.RUNNING,
        now=now,
        launched_at=now,
        progress=100,
    )
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server)


# -- rescue, passwords --------------------------------------------------------------------------


@transaction(db="own")
def finish_rescue(tx: Tx, env: Env, server_id: str) -> None:
    """RESCUED, from now on: how long is counted from ``launched_at``, as Nova does."""
    _forget(tx, env, server_id)
    now = env.clock.now()
    server = servers.finish(
        tx, server_id, VmState.RESCUED, power=PowerState.RUNNING, now=now, launched_at=now
    )
    end_action(tx, env, server_id, now, tell=False)
    telling.ended(tx, env, server, **telling.about(tx, env, server_id))


@transaction(db="own")
def finish_password(tx: Tx, env: Env, server_id: str) -> None:
    """The password is set, and known here no more."""
    _forget(tx, env, server_id)
    now = env.clock.now()
    servers.set_task(tx, server_id, None, now=now)
    end_action(tx, env, server_id, now)


# -- failing --------------------------------------------------------------------------------


@transaction(db="own")
def fail_rebuild(
    tx: Tx,
    env: Env,
    server_id: str,
    former: Former | None,
    _stopped: bool,
    _preserve_ephemeral: bool,
    _root: object = None,
) -> None:
    """ERROR. A server whose host does not do for the image has its former one."""
    error = env.error
    refused = error is not None and error.type == NoValidHost.__name__
    if error is not None and refused:
        _refuse(tx, env, server_id, former, error)
    _fail(tx, env, server_id, tell=not refused)


@transaction(db="own")
def fail(tx: Tx, env: Env, server_id: str) -> None:
    """ERROR, with the fault."""
    _fail(tx, env, server_id)


@transaction(db="own")
def fail_rescue(tx: Tx, env: Env, server_id: str, _image: object, _named: str | None) -> None:
    """The same for a rescue."""
    _fail(tx, env, server_id)


@transaction(db="own")
def fail_password(tx: Tx, env: Env, server_id: str) -> None:
    """The password is as before; so is the server."""
    _forget(tx, env, server_id)
    now = env.clock.now()
    end_action(tx, env, server_id, now, error=fault(env.error, env).message)
    if not engine.awaited(tx, env.saga_id):
        servers.set_task(tx, server_id, None, now=now)


def _fail(tx: Tx, env: Env, server_id: str, *, tell: bool = True) -> None:
    _forget(tx, env, server_id)
    now = env.clock.now()
    told = fault(env.error, env)
    end_action(tx, env, server_id, now, error=told.message, tell=tell)
    # Whoever waits for the server has written its own task there.
    if not engine.awaited(tx, env.saga_id):
        servers.set_error(tx, server_id, told, now=now)


def _refuse(tx: Tx, env: Env, server_id: str, former: Former | None, error: ErrorInfo) -> None:
    now, asked = env.clock.now(), env.asked.request_id
    told = fault(error, env).message
    actions.start_event(tx, server_id, asked, REBUILD_ASKED, now=now)
    actions.finish_event(tx, server_id, asked, REBUILD_ASKED, now=now, error=told)
    present = servers.private(tx, server_id)
    if servers.get(tx, server_id) is None or present is None:
        return
    if former is not None:
        system = with_properties(present.system, former.properties)
        servers.update(tx, server_id, now=now, image=former.image, system=system)
    note(
        tx,
        "compute_task.rebuild_server.error",
        TaskFacts(server_id, VmState.ERROR, telling.cause(error)),
    )


def _forget(tx: Tx, env: Env, server_id: str) -> None:
    """Secrets: beside the server, and in what the steps gave."""
    pending.forget(tx, server_id, now=env.clock.now())
    for step in (describe_anew.name, take_secret.name):
        journal.forget_results(tx, env.saga_id, step)


@remote()
async def take_secret(env: Env, server_id: str) -> Pending:
    """The password that is to be set."""
    place = await find_place(env, server_id)
    if place.cell_id is None:
        raise NotFound(f"Instance {server_id} could not be found.")
    return await env.world.cells.get(place.cell_id).db.read(pending.read, server_id)
