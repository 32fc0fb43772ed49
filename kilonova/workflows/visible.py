"""What users see of a saga: the task state, and the event of the instance action."""

from __future__ import annotations

import msgspec

from kilonova.base.clock import Clock
from kilonova.db.database import Database, Tx
from kilonova.domain.states import Task
from kilonova.store import actions, servers
from kilonova.workflows import telling
from kilonova.workflows.engine.kit import Happening


class Event(msgspec.Struct, frozen=True):
    """An event by Nova's name. It begins with the first step that has one of these tasks.

    Work that shows no task begins its event by a step of its own.
    """

    name: str
    tasks: tuple[Task, ...] = ()


EVENTS: dict[str, Event] = {
    "server.build": Event("compute__do_build_and_run_instance", (Task.NETWORKING,)),
    "server.delete": Event("compute_terminate_instance", (Task.DELETING,)),
    "server.start": Event("compute_start_instance", (Task.POWERING_ON,)),
    "server.stop": Event("compute_stop_instance", (Task.POWERING_OFF,)),
    "server.attach_volume": Event("compute_attach_volume", ()),
    "server.detach_volume": Event("compute_detach_volume", ()),
    "server.extend_volume": Event("compute_extend_volume", ()),
    "server.swap_volume": Event("compute_swap_volume", ()),
    "server.reboot": Event(
        "compute_reboot_instance", (Task.REBOOT_STARTED, Task.REBOOT_STARTED_HARD)
    ),
    "server.attach_share": Event("compute_allow_share"),
    "server.detach_share": Event("compute_deny_share"),
    "server.pause": Event("compute_pause_instance", (Task.PAUSING,)),
    "server.unpause": Event("compute_unpause_instance", (Task.UNPAUSING,)),
    "server.suspend": Event("compute_suspend_instance", (Task.SUSPENDING,)),
    "server.resume": Event("compute_resume_instance", (Task.RESUMING,)),
    "server.shelve": Event("compute_shelve_instance", (Task.SHELVING,)),
    "server.shelve_volumes": Event("compute_shelve_offload_instance", (Task.SHELVING,)),
    "server.shelve_offload": Event("compute_shelve_offload_instance", (Task.SHELVING_OFFLOADING,)),
    "server.unshelve": Event("compute_unshelve_instance", (Task.SPAWNING,)),
    "server.unshelve_here": Event("compute_start_instance", (Task.POWERING_ON,)),
    "server.soft_delete": Event("compute_soft_delete_instance", (Task.SOFT_DELETING,)),
    "server.restore": Event("compute_restore_instance", (Task.RESTORING,)),
    "server.crash_dump": Event("compute_trigger_crash_dump"),
    "server.create_image": Event("compute_snapshot_instance"),
    "server.create_backup": Event("compute_backup_instance"),
    "server.rebuild": Event("compute_rebuild_instance", (Task.REBUILD_BLOCK_DEVICE_MAPPING,)),
    "server.rescue": Event("compute_rescue_instance"),
    "server.unrescue": Event("compute_unrescue_instance", (Task.UNRESCUING,)),
    "server.set_password": Event("compute_set_admin_password", (Task.UPDATING_PASSWORD,)),
    "server.attach_interface": Event("compute_attach_interface"),
    "server.detach_interface": Event("compute_detach_interface"),
    "server.resize": Event("conductor_migrate_server"),
    "server.migrate": Event("conductor_migrate_server"),
    "server.confirm_resize": Event("compute_confirm_resize"),
    "server.revert_resize": Event("compute_revert_resize"),
    "server.live_migrate": Event("conductor_live_migrate_instance"),
    "server.evacuate": Event("conductor_rebuild_server"),
}
BURIED = "conductor_schedule_and_build_instances"
"""The event of a server that found no host."""
REBUILD_ASKED = "rebuild_server"
"""The event of looking whether a server may be made anew where it is."""


class ServerVisible:
    """``engine.kit.Visible`` over the store; tells the API database by its engine.

    Events are ended by the saga's last step, together with the action.
    """

    tells_ends = False

    def __init__(self, api: Database, clock: Clock) -> None:
        self._engine = api.engine
        self._clock = clock

    def step_started(self, tx: Tx, what: Happening) -> None:
        if what.server_id is None or tx.engine is self._engine:
            return
        now = self._clock.now()
        kept = (what.task, Task.DELETING)
        server = servers.begin_task(tx, what.server_id, what.task, now=now, unless=kept)
        if server is None:
            return
        event = EVENTS.get(what.kind.name)
        if event is None or what.task not in event.tasks:
            return
        first = actions.start_event(
            tx,
            what.server_id,
            what.asked.request_id,
            event.name,
            now=now,
            host=what.host or server.host,
        )
        if first and what.kind.notify:
            telling.begun(tx, what.kind.notify, server)

    def step_finished(self, tx: Tx, what: Happening) -> None:
        """The task stays until the next step or the end."""

    def saga_ended(self, tx: Tx, what: Happening) -> None:
        """The last step of each saga has written the end already."""
