"""The state table: what actions need, and the status clients are shown."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.base.errors import Conflict
from kilonova.domain import states
from kilonova.domain.states import Task, VmState


class Some(msgspec.Struct):
    vm_state: str = VmState.ACTIVE
    task_state: str | None = None
    host: str | None = "h1"
    launched_at: object = 1
    locked_by: str | None = None
    id: str = "s"


def test_what_is_allowed_passes() -> None:
    states.check("os-stop", Some())
    states.check("delete", Some(VmState.BUILDING, Task.SPAWNING, None, None))
    states.check("os-stop", Some(locked_by="admin"), override_lock=True)


@pytest.mark.parametrize(
    ("action", "server", "words"),
    [
        ("os-start", Some(), "Cannot 'start' instance s while it is in vm_state active"),
        (
            "os-stop",
            Some(task_state=Task.REBOOTING),
            "Cannot 'stop' instance s while it is in task_state rebooting",
        ),
        (
            "reboot-hard",
            Some(launched_at=None),
            "Cannot 'reboot' instance s while it is in launched_at None",
        ),
        ("os-stop", Some(locked_by="owner"), "Instance s is locked"),
        ("os-stop", Some(host=None), "Instance s is not ready"),
    ],
)
def test_what_is_not_is_a_conflict(action: str, server: Some, words: str) -> None:
    with pytest.raises(Conflict) as caught:
        states.check(action, server)
    assert caught.value.message == words


def test_a_lock_is_told_before_a_state() -> None:
    with pytest.raises(Conflict, match="locked"):
        states.check("os-start", Some(locked_by="owner"))


@pytest.mark.parametrize(
    ("vm_state", "task", "status"),
    [
        (VmState.ACTIVE, None, "ACTIVE"),
        (VmState.ACTIVE, Task.REBOOTING, "REBOOT"),
        (VmState.ACTIVE, Task.REBOOTING_HARD, "HARD_REBOOT"),
        (VmState.ACTIVE, Task.POWERING_OFF, "ACTIVE"),
        (VmState.STOPPED, Task.RESIZE_PREP, "RESIZE"),
        (VmState.BUILDING, Task.SPAWNING, "BUILD"),
        ("nonsense", None, "UNKNOWN"),
    ],
)
def test_status(vm_state: str, task: Task | None, status: str) -> None:
    assert states.status(vm_state, task) == status


@pytest.mark.parametrize("vm_state", list(VmState))
def test_a_status_leads_back_to_its_states(vm_state: VmState) -> None:
    assert (str(vm_state), None) in states.of_status(states.status(vm_state, None).lower())
    for task in states.special_tasks(vm_state):
        word = states.status(vm_state, task)
        meant = {state: tasks for state, tasks in states.of_status(word) if tasks}
        assert task in meant[str(vm_state)]


def test_no_status_means_nothing() -> None:
    assert states.of_status("WHATEVER") == []
