"""TABLE: every notification by its versioned event type.

Names are Nova's (appendix "versioned notifications" of its developer reference, and the unversioned
event types its services send). A row that ``waits`` is sent by nothing yet: the work that would
cause it is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kilonova.base.registry import Registry

API, COMPUTE, CONDUCTOR, SCHEDULER = "nova-api", "nova-compute", "nova-conductor", "nova-scheduler"
START, END, ERROR, PROGRESS = "start", "end", "error", "progress"


class Notification(msgspec.Struct, frozen=True):
    """One notification.

    ``payload`` names a row of ``payloads.PAYLOADS``. ``source`` is the binary in the publisher id.
    ``legacy`` is the unversioned event type (None: there is none), ``legacy_source`` the service in
    its publisher id. ``waits`` names the work it waits for.
    """

    event: str
    payload: str
    source: str = COMPUTE
    legacy: str | None = None
    legacy_source: str = "compute"
    waits: str = ""

    @property
    def error(self) -> bool:
        """Whether it is sent with the priority ERROR."""
        return self.event.endswith(".error") or self.event == "compute.exception"


TABLE: Registry[Notification] = Registry("notification")


def _phases(
    event: str,
    phases: tuple[str, ...],
    payload: str,
    *,
    source: str = COMPUTE,
    legacy: str | None = None,
    legacy_source: str = "compute",
    silent: tuple[str, ...] = (),
    waits: str = "",
) -> Iterator[Notification]:
    """The phases of one event; those in ``silent`` have no unversioned form."""
    for phase in phases:
        tail = f".{phase}" if phase else ""
        old = f"{legacy}{tail}" if legacy and phase not in silent else None
        yield Notification(f"{event}{tail}", payload, source, old, legacy_source, waits)


BOTH, ALL, ONCE = (START, END), (START, END, ERROR), ("",)
ACTION = "InstanceActionPayload"
USAGE = "compute.instance."

# event below instance. → (phases, unversioned name below compute.instance., what it waits for)
_INSTANCE: dict[str, tuple[tuple[str, ...], str | None, str]] = {
    "delete": (BOTH, "delete", ""),
    "shutdown": (BOTH, "shutdown", ""),
    "soft_delete": (BOTH, "soft_delete", ""),
    "restore": (BOTH, "restore", ""),
    "power_on": (BOTH, "power_on", ""),
    "power_off": (BOTH, "power_off", ""),
    "reboot": (ALL, "reboot", ""),
    "pause": (BOTH, "pause", ""),
    "unpause": (BOTH, "unpause", ""),
    "trigger_crash_dump": (BOTH, "trigger_crash_dump", ""),
    "interface_attach": (ALL, None, ""),
    "interface_detach": (BOTH, None, ""),
    "suspend": (BOTH, "suspend", ""),
    "resume": (BOTH, "resume", ""),
    "unrescue": (BOTH, "unrescue", ""),
    "shelve": (BOTH, "shelve", ""),
    "shelve_offload": (BOTH, "shelve_offload", ""),
    "unshelve": (BOTH, "unshelve", ""),
    "resize": (ALL, "resize", ""),
    "resize_finish": (BOTH, "finish_resize", ""),
    "resize_confirm": (BOTH, "resize.confirm", ""),
    "resize_revert": (BOTH, "resize.revert", ""),
    "evacuate": (ONCE, "evacuate", ""),
    "live_migration_pre": (BOTH, "live_migration.pre", ""),
    "live_migration_post": (BOTH, "live_migration._post", ""),
    "live_migration_post_dest": (BOTH, "live_migration.post.dest", ""),
    "live_migration_rollback": (BOTH, "live_migration._rollback", ""),
    "live_migration_rollback_dest": (BOTH, "live_migration.rollback.dest", ""),
    "live_migration_abort": (BOTH, "live.migration.abort", ""),
    "live_migration_force_complete": (BOTH, "live.migration.force.complete", ""),
    "power_on_share": (BOTH, None, "shares"),
}


def _instance() -> Iterator[Notification]:
    for name, (phases, old, waits) in _INSTANCE.items():
        legacy = f"{USAGE}{old}" if old else None
        yield from _phases(f"instance.{name}", phases, ACTION, legacy=legacy, waits=waits)
    for event, phases, payload, old, waits in (
        ("create", ALL, "InstanceCreatePayload", "create", ""),
        ("rebuild", ALL, "InstanceActionRebuildPayload", "rebuild", ""),
        ("rescue", BOTH, "InstanceActionRescuePayload", "rescue", ""),
        ("snapshot", BOTH, "InstanceActionSnapshotPayload", "snapshot", ""),
        ("resize_prep", BOTH, "InstanceActionResizePrepPayload", "resize.prep", ""),
        ("exists", ONCE, "InstanceExistsPayload", "exists", ""),
    ):
        yield from _phases(
            f"instance.{event}", phases, payload, legacy=f"{USAGE}{old}", waits=waits
        )
    yield Notification(
        "instance.rebuild_scheduled",
        "InstanceActionRebuildPayload",
        CONDUCTOR,
        f"{USAGE}rebuild.scheduled",
    )
    yield Notification("instance.update", "InstanceUpdatePayload", legacy=f"{USAGE}update")
    yield from _phases("instance.lock", ONCE, ACTION, source=API)
    yield from _phases("instance.unlock", ONCE, ACTION, source=API)
    for word in ("attach", "detach"):
        phases = ALL if word == "attach" else BOTH
        for phase in phases:
            # The unversioned form tells of the end alone, and has no phase.
            old = f"{USAGE}volume.{word}" if phase == END else None
            event = f"instance.volume_{word}.{phase}"
            yield Notification(event, "InstanceActionVolumePayload", legacy=old)
        yield from _phases(f"instance.share_{word}", ALL, "InstanceActionSharePayload")
    yield from _phases("instance.volume_swap", ALL, "InstanceActionVolumeSwapPayload")


def _aggregate() -> Iterator[Notification]:
    payload = "AggregatePayload"
    for event, old in (
        ("create", "create"),
        ("delete", "delete"),
        ("add_host", "addhost"),
        ("remove_host", "removehost"),
        ("update_prop", "updateprop"),
        ("update_metadata", "updatemetadata"),
    ):
        yield from _phases(
            f"aggregate.{event}",
            BOTH,
            payload,
            source=API,
            legacy=f"aggregate.{old}",
            legacy_source="aggregate",
        )
    yield from _phases("aggregate.cache_images", BOTH, payload, source=CONDUCTOR)
    yield Notification("aggregate.cache_images.progress", "AggregateCachePayload", CONDUCTOR)


def _others() -> Iterator[Notification]:
    for word in ("create", "delete", "update"):
        yield Notification(f"flavor.{word}", "FlavorPayload", API)
        yield Notification(f"service.{word}", "ServiceStatusPayload")
    for word in ("create", "import", "delete"):
        event = f"keypair.{word}"
        yield from _phases(
            event, BOTH, "KeypairPayload", source=API, legacy=event, legacy_source="api"
        )
    for word, old in (("create", "create"), ("delete", "delete"), ("add_member", "addmember")):
        yield Notification(
            f"server_group.{word}", "ServerGroupPayload", API, f"servergroup.{old}", "servergroup"
        )
    for word, waits in (
        ("build_instances", ""),
        ("migrate_server", ""),
        ("rebuild_server", ""),
    ):
        yield Notification(
            f"compute_task.{word}.error",
            "ComputeTaskPayload",
            CONDUCTOR,
            f"compute_task.{word}",
            "compute_task",
            waits,
        )
    chosen = "scheduler.select_destinations"
    yield from _phases(
        chosen,
        BOTH,
        "RequestSpecPayload",
        source=SCHEDULER,
        legacy=chosen,
        legacy_source="scheduler",
    )
    yield Notification("compute.exception", "ExceptionPayload", COMPUTE, "compute.exception")
    yield Notification("metrics.update", "MetricsPayload", COMPUTE, "compute.metrics.update")
    yield Notification("volume.usage", "VolumeUsagePayload", COMPUTE, "volume.usage")
    yield Notification(
        "libvirt.connect.error", "LibvirtErrorPayload", COMPUTE, "compute.libvirt.error"
    )


for _row in (*_instance(), *_aggregate(), *_others()):
    TABLE.add(_row.event, _row)
