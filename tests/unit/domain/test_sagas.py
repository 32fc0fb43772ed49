"""Kinds of sagas: every one is found by its name."""

from __future__ import annotations

import msgspec
import pytest

from kilonova.domain.sagas import BUILD, DELETE, SAGAS, SagaKind


def test_sagas_are_found_by_name_and_have_arguments_that_travel() -> None:
    assert SAGAS.get("server.build") is BUILD  # type: ignore[comparison-overlap]
    for name in SAGAS:
        kind = SAGAS.get(name)
        assert kind.action
        msgspec.json.Decoder(kind.args)
    assert repr(DELETE) == "SagaKind(server.delete)"


def test_only_what_no_host_need_answer_cancels_what_is_under_way() -> None:
    assert {name for name in SAGAS if SAGAS.get(name).cancels} == {
        "server.delete",
        "server.evacuate",
        "server.soft_delete",
    }


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match=r"server\.build"):
        SagaKind("server.build", BUILD.args, action="create")
