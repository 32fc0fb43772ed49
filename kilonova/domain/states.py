"""Server states: what each action needs of a server, and the status clients are shown."""

from __future__ import annotations

import enum
from typing import Protocol

import msgspec

from kilonova.base.errors import Conflict


class VmState(enum.StrEnum):
    """Stable states (``OS-EXT-STS:vm_state``)."""

    ACTIVE = "active"
    BUILDING = "building"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    RESCUED = "rescued"
    RESIZED = "resized"
    SOFT_DELETED = "soft-delete"
    DELETED = "deleted"
    ERROR = "error"
    SHELVED = "shelved"
    SHELVED_OFFLOADED = "shelved_offloaded"


class Task(enum.StrEnum):
    """Work under way (``OS-EXT-STS:task_state``)."""

    SCHEDULING = "scheduling"
    BLOCK_DEVICE_MAPPING = "block_device_mapping"
    NETWORKING = "networking"
    SPAWNING = "spawning"
    IMAGE_SNAPSHOT = "image_snapshot"
    IMAGE_SNAPSHOT_PENDING = "image_snapshot_pending"
    IMAGE_PENDING_UPLOAD = "image_pending_upload"
    IMAGE_UPLOADING = "image_uploading"
    IMAGE_BACKUP = "image_backup"
    UPDATING_PASSWORD = "updating_password"
    RESIZE_PREP = "resize_prep"
    RESIZE_MIGRATING = "resize_migrating"
    RESIZE_MIGRATED = "resize_migrated"
    RESIZE_FINISH = "resize_finish"
    RESIZE_REVERTING = "resize_reverting"
    RESIZE_CONFIRMING = "resize_confirming"
    REBOOTING = "rebooting"
    REBOOT_PENDING = "reboot_pending"
    REBOOT_STARTED = "reboot_started"
    REBOOTING_HARD = "rebooting_hard"
    REBOOT_PENDING_HARD = "reboot_pending_hard"
    REBOOT_STARTED_HARD = "reboot_started_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    POWERING_OFF = "powering-off"
    POWERING_ON = "powering-on"
    RESCUING = "rescuing"
    UNRESCUING = "unrescuing"
    REBUILDING = "rebuilding"
    REBUILD_BLOCK_DEVICE_MAPPING = "rebuild_block_device_mapping"
    REBUILD_SPAWNING = "rebuild_spawning"
    MIGRATING = "migrating"
    DELETING = "deleting"
    SOFT_DELETING = "soft-deleting"
    RESTORING = "restoring"
    SHELVING = "shelving"
    SHELVING_IMAGE_PENDING_UPLOAD = "shelving_image_pending_upload"
    SHELVING_IMAGE_UPLOADING = "shelving_image_uploading"
    SHELVING_OFFLOADING = "shelving_offloading"
    UNSHELVING = "unshelving"


_ACTIVE, _STOPPED, _PAUSED = VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED
_SUSPENDED, _ERROR = VmState.SUSPENDED, VmState.ERROR
_ALL = frozenset(VmState) - {VmState.DELETED}
_QUIET: frozenset[Task | None] = frozenset({None})
_REBOOTS = frozenset(
    {
        None,
        Task.REBOOTING,
        Task.REBOOT_PENDING,
        Task.REBOOT_STARTED,
        Task.REBOOTING_HARD,
        Task.RESUMING,
        Task.UNPAUSING,
        Task.PAUSING,
        Task.SUSPENDING,
    }
)


class Rule(msgspec.Struct, frozen=True):
    """What an action needs: states, tasks (None: any), a host, to have run once, no lock."""

    vm_states: frozenset[VmState]
    tasks: frozenset[Task | None] | None = _QUIET
    host: bool = False
    launched: bool = True
    lock: bool = True
    word: str = ""


def _rule(*states: VmState, **more: object) -> Rule:
    return Rule(frozenset(states), **more)  # type: ignore[arg-type]


_ANY = {"tasks": None, "launched": False}
_MOVABLE = (_ACTIVE, _STOPPED)
_TOUCHABLE = (_ACTIVE, _PAUSED, _SUSPENDED, _STOPPED)

ACTIONS: dict[str, Rule] = {
    "os-start": _rule(_STOPPED, host=True, word="start"),
    "os-stop": _rule(_ACTIVE, _ERROR, host=True, word="stop"),
    "reboot-soft": _rule(_ACTIVE, word="reboot"),
    "reboot-hard": _rule(
        _ACTIVE, _PAUSED, _SUSPENDED, _STOPPED, _ERROR, tasks=_REBOOTS, word="reboot"
    ),
    "pause": _rule(_ACTIVE),
    "unpause": _rule(_PAUSED),
    "suspend": _rule(_ACTIVE),
    "resume": _rule(_SUSPENDED),
    "rescue": _rule(_ACTIVE, _STOPPED, _ERROR),
    "unrescue": _rule(VmState.RESCUED),
    "rebuild": _rule(_ACTIVE, _STOPPED, _ERROR),
    "resize": _rule(*_MOVABLE),
    "migrate": _rule(*_MOVABLE),
    "confirmResize": _rule(VmState.RESIZED),
    "revertResize": _rule(VmState.RESIZED),
    "os-migrateLive": _rule(_ACTIVE, _PAUSED),
    "evacuate": _rule(_ACTIVE, _STOPPED, _ERROR, tasks=None, lock=False),
    "createImage": _rule(*_TOUCHABLE, lock=False),
    "createBackup": _rule(*_TOUCHABLE, lock=False),
    "shelve": _rule(*_TOUCHABLE),
    "shelveOffload": _rule(VmState.SHELVED),
    "unshelve": _rule(VmState.SHELVED, VmState.SHELVED_OFFLOADED),
    "changePassword": _rule(_ACTIVE),
    "trigger_crash_dump": _rule(
        _ACTIVE, _PAUSED, VmState.RESCUED, VmState.RESIZED, _ERROR, host=True
    ),
    "os-getConsoleOutput": Rule(
        _ALL, tasks=None, host=True, launched=False, lock=False, word="get_console_output"
    ),
    "remote-consoles": Rule(
        _ALL,
        tasks=frozenset({None, *Task}) - {Task.DELETING, Task.MIGRATING},
        host=True,
        launched=False,
        lock=False,
        word="get_console",
    ),
    "diagnostics": Rule(
        _ALL, tasks=None, host=True, launched=False, lock=False, word="get_diagnostics"
    ),
    "abort": Rule(_ALL, tasks=frozenset({Task.MIGRATING}), word="abort live migration"),
    "force_complete": _rule(_ACTIVE, tasks=frozenset({Task.MIGRATING})),
    "attach_share": Rule(frozenset({_STOPPED}), tasks=None, launched=False, lock=False),
    "detach_share": Rule(frozenset({_STOPPED, _ERROR}), tasks=None, launched=False, lock=False),
    "volume_snapshot_create": Rule(_ALL, host=True, lock=False),
    "volume_snapshot_delete": Rule(_ALL, host=True, lock=False),
    "delete": Rule(_ALL, tasks=None, launched=False),
    "forceDelete": Rule(_ALL, tasks=None, launched=False),
    "restore": _rule(VmState.SOFT_DELETED),
    "attach_volume": _rule(
        _ACTIVE,
        _PAUSED,
        _STOPPED,
        VmState.RESIZED,
        VmState.SOFT_DELETED,
        VmState.SHELVED,
        VmState.SHELVED_OFFLOADED,
    ),
    "attach_interface": _rule(_ACTIVE, _PAUSED, _STOPPED),
    "metadata": _rule(*_TOUCHABLE, tasks=None, launched=False),
    "tags": _rule(*_TOUCHABLE, tasks=None, launched=False, lock=False),
}
"""Feature table A4: one row per action."""


class HasState(Protocol):
    """What must be known of a server."""

    @property
    def id(self) -> str: ...
    @property
    def vm_state(self) -> str: ...
    @property
    def task_state(self) -> str | None: ...
    @property
    def host(self) -> str | None: ...
    @property
    def launched_at(self) -> object: ...
    @property
    def locked_by(self) -> str | None: ...


def check(action: str, server: HasState, *, override_lock: bool = False, word: str = "") -> None:
    """Raise Conflict, in the words clients know, unless the server's state allows the action.

    Order: lock, host, vm_state, task_state, launched_at.
    """
    rule = ACTIONS[action]
    if rule.lock and server.locked_by and not override_lock:
        raise Conflict(f"Instance {server.id} is locked", code="server.locked")
    if rule.host and not server.host:
        raise Conflict(f"Instance {server.id} is not ready", code="server.state")
    name = word or rule.word or action
    if server.vm_state not in rule.vm_states:
        raise wrong_state(name, server.id, "vm_state", server.vm_state)
    if rule.tasks is not None and server.task_state not in rule.tasks:
        raise wrong_state(name, server.id, "task_state", server.task_state)
    if rule.launched and server.launched_at is None:
        raise wrong_state(name, server.id, "launched_at", None)


def wrong_state(word: str, server_id: str, attribute: str, value: object) -> Conflict:
    """The Conflict of a server whose state does not allow an action."""
    return Conflict(
        f"Cannot '{word}' instance {server_id} while it is in {attribute} {value}",
        code="server.state",
    )


_RESIZE = {
    Task.RESIZE_PREP: "RESIZE",
    Task.RESIZE_MIGRATING: "RESIZE",
    Task.RESIZE_MIGRATED: "RESIZE",
    Task.RESIZE_FINISH: "RESIZE",
}
_REBUILD = {
    Task.REBUILDING: "REBUILD",
    Task.REBUILD_BLOCK_DEVICE_MAPPING: "REBUILD",
    Task.REBUILD_SPAWNING: "REBUILD",
}
_STATUS: dict[str, tuple[str, dict[Task, str]]] = {
    VmState.ACTIVE: (
        "ACTIVE",
        {
            Task.REBOOTING: "REBOOT",
            Task.REBOOT_PENDING: "REBOOT",
            Task.REBOOT_STARTED: "REBOOT",
            Task.REBOOTING_HARD: "HARD_REBOOT",
            Task.REBOOT_PENDING_HARD: "HARD_REBOOT",
            Task.REBOOT_STARTED_HARD: "HARD_REBOOT",
            Task.UPDATING_PASSWORD: "PASSWORD",
            Task.MIGRATING: "MIGRATING",
            **_REBUILD,
            **_RESIZE,
        },
    ),
    VmState.BUILDING: ("BUILD", {}),
    VmState.STOPPED: ("SHUTOFF", {**_RESIZE, **_REBUILD}),
    VmState.RESIZED: ("VERIFY_RESIZE", {Task.RESIZE_REVERTING: "REVERT_RESIZE"}),
    VmState.PAUSED: ("PAUSED", {Task.MIGRATING: "MIGRATING"}),
    VmState.SUSPENDED: ("SUSPENDED", {}),
    VmState.RESCUED: ("RESCUE", {}),
    VmState.ERROR: ("ERROR", dict(_REBUILD)),
    VmState.DELETED: ("DELETED", {}),
    VmState.SOFT_DELETED: ("SOFT_DELETED", {}),
    VmState.SHELVED: ("SHELVED", {}),
    VmState.SHELVED_OFFLOADED: ("SHELVED_OFFLOADED", {}),
}
WITH_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
WITH_FAULT = frozenset({"ERROR", "DELETED"})


def status(vm_state: str, task_state: str | None) -> str:
    """The ``status`` clients are shown; UNKNOWN for states nobody knows."""
    default, special = _STATUS.get(vm_state, ("UNKNOWN", {}))
    if task_state is None:
        return default
    return special.get(task_state, default)  # type: ignore[call-overload, no-any-return]


def of_status(word: str) -> list[tuple[str, tuple[str | None, ...] | None]]:
    """What a status means: (vm_state, tasks) pairs; tasks None for any that is not special.

    Empty for a word that is no status. For filters of lists.
    """
    wanted = word.upper()
    found: list[tuple[str, tuple[str | None, ...] | None]] = []
    for vm_state, (default, special) in _STATUS.items():
        tasks = tuple(str(task) for task, name in special.items() if name == wanted)
        if default == wanted:
            found.append((str(vm_state), None))
        elif tasks:
            found.append((str(vm_state), tasks))
    return found


def special_tasks(vm_state: str) -> tuple[str, ...]:
    """The tasks that give a vm_state another status than its default."""
    return tuple(str(task) for task in _STATUS[vm_state][1])
