"""Operations on hosts: every one is found by its name."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.domain.operations import DESTROY, OPERATIONS, SPAWN, Operation


def test_operations_are_found_by_name() -> None:
    assert OPERATIONS.get("spawn") is SPAWN
    assert {OPERATIONS.get(name).name for name in OPERATIONS} == set(OPERATIONS)
    assert repr(DESTROY) == "Operation(destroy)"


def test_each_has_a_time_limit_and_types_that_travel() -> None:
    for name in OPERATIONS:
        operation = OPERATIONS.get(name)
        assert operation.seconds > 0
        msgspec.msgpack.Decoder(operation.args)
        msgspec.msgpack.Decoder(operation.result)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="spawn"):
        Operation("spawn", SPAWN.args, SPAWN.result, seconds=1)
