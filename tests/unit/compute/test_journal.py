from __future__ import annotations

from pathlib import Path

import pytest

from kilonova.base.clock import VirtualClock
from kilonova.compute.journal import Journal, Stale
from kilonova.domain.operations import OperationId, OperationReply

DONE = OperationReply("done", result=b"\x01")
FAILED = OperationReply("failed", error="Conflict", message="no")


def who(epoch: int = 1, step: str = "spawn") -> OperationId:
    return OperationId("saga-1", step, epoch)


def test_an_answer_outlives_the_process(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    first = Journal(file, clock=VirtualClock())
    assert first.begin("h", who(), "spawn", "s") is None
    first.finish("h", who(), DONE)
    assert first.begin("h", who(step="resume"), "resume", "s") is None
    # No close: the process was killed.
    second = Journal(file, clock=VirtualClock())
    assert second.begin("h", who(epoch=2), "spawn", "s") == DONE
    assert second.unfinished("h") == [("resume", "s")]
    assert second.begin("h", who(step="resume"), "resume", "s") is None
    assert second.begin("other", who(), "spawn", "s") is None
    first.close()
    second.close()


def test_a_failure_is_answered_again_but_tried_anew_for_a_later_epoch() -> None:
    journal = Journal(None, clock=VirtualClock())
    journal.begin("h", who(), "spawn", "s")
    journal.finish("h", who(), FAILED)
    assert journal.begin("h", who(), "spawn", "s") == FAILED
    assert journal.begin("h", who(epoch=2), "spawn", "s") is None
    journal.close()


def test_a_superseded_epoch_is_refused_for_every_step() -> None:
    journal = Journal(None, clock=VirtualClock())
    journal.begin("h", who(epoch=3), "spawn", "s")
    with pytest.raises(Stale, match="Epoch 2"):
        journal.begin("h", who(epoch=2, step="resume"), "resume", "s")
    with pytest.raises(Stale):
        journal.join("h", who(epoch=2))
    journal.close()


async def test_old_entries_are_forgotten() -> None:
    clock = VirtualClock()
    journal = Journal(None, clock=clock)
    journal.begin("h", who(), "spawn", "s")
    journal.finish("h", who(), DONE)
    await clock.advance(1800)
    assert journal.prune() == 0
    await clock.advance(2 * 86400)
    assert journal.prune() == 1
    assert journal.begin("h", who(), "spawn", "s") is None
    journal.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "journal.db"
    file.write_bytes(b"this is no database" * 1000)
    journal = Journal(file, clock=VirtualClock())
    assert journal.begin("h", who(), "spawn", "s") is None
    journal.close()
    assert (tmp_path / "journal.damaged").is_file()


def test_the_failure_of_an_undo_is_tried_anew() -> None:
    journal = Journal(None, clock=VirtualClock())
    undo = who(step="spawn/undo")
    journal.begin("h", undo, "destroy", "s")
    journal.finish("h", undo, FAILED)
    assert journal.begin("h", undo, "destroy", "s") is None
    journal.finish("h", undo, DONE)
    assert journal.begin("h", undo, "destroy", "s") == DONE
    journal.close()
