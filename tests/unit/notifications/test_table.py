"""The table of notifications agrees with the payloads and with the sagas."""

from __future__ import annotations

import pytest

from kilonova.notifications.legacy import MAKERS
from kilonova.notifications.payloads import PAYLOADS
from kilonova.notifications.table import TABLE
from kilonova.workflows import sagas
from kilonova.workflows.engine.steps import SAGAS
from kilonova.workflows.telling import ALONGSIDE


def test_there_are_as_many_as_nova_has() -> None:
    assert len(list(TABLE)) == 134
    assert {row.payload for _, row in TABLE.items()} <= set(PAYLOADS)
    assert MAKERS


def test_errors_are_errors() -> None:
    loud = {event for event, row in TABLE.items() if row.error}
    assert loud == {event for event in TABLE if event.endswith(".error")} | {"compute.exception"}


def test_unversioned_names() -> None:
    for event, legacy in (
        ("instance.create.start", "compute.instance.create.start"),
        ("instance.volume_attach.end", "compute.instance.volume.attach"),
        ("instance.volume_attach.start", None),
        ("instance.resize_finish.end", "compute.instance.finish_resize.end"),
        ("aggregate.update_prop.start", "aggregate.updateprop.start"),
        ("server_group.add_member", "servergroup.addmember"),
        ("compute_task.build_instances.error", "compute_task.build_instances"),
        ("flavor.create", None),
    ):
        assert TABLE.get(event).legacy == legacy


@pytest.mark.parametrize("name", [name for name, kind in SAGAS.items() if kind.notify])
def test_what_a_saga_tells_waits_for_nothing(name: str) -> None:
    assert sagas.__all__
    event = SAGAS.get(name).notify
    told = [event, *([ALONGSIDE[event]] if event in ALONGSIDE else [])]
    for each in told:
        for phase in ("start", "end"):
            assert TABLE.get(f"{each}.{phase}").waits == ""
