"""Answers outside their schema: an error, a word in the log, or nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kilonova.base.clock import SystemClock
from kilonova.base.ids import RandomIds
from kilonova.web.app import build
from kilonova.web.auth import StaticAuthenticator
from kilonova.web.call import Call, Caller, Reply
from kilonova.web.faults import nova_faults
from kilonova.web.routes import Api, Routes
from kilonova.web.schema import Schema, since
from kilonova.web.testing import AllowRules, Client
from kilonova.web.versions import VersionRange

THING = Schema(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "size": since(5, {"type": "integer"})},
        "additionalProperties": False,
    }
)
SAID: dict[str, Any] = {
    "right": {"name": "a"},
    "wrong": {"name": 7},
    "more": {"name": "a", "colour": "red"},
    "sized": {"name": "a", "size": 1},
}
routes: Routes[None] = Routes()


@routes.get("/things/{name}", responses=THING, also=(202,))
async def show(_call: Call[None], name: str) -> Any:
    return SAID.get(name) or Reply(None, status=202)


def client(answers: str) -> Client:
    """A service with one thing of each kind."""
    app = build(
        Api("things", (routes,), versions=VersionRange("compute", 2, 1, 9), faults=nova_faults),
        None,
        auth=StaticAuthenticator({"t": Caller(user_id="u", project_id="p", roles=("member",))}),
        policy=AllowRules(),
        clock=SystemClock(),
        ids=RandomIds(),
        answers=answers,
    )
    return Client(app, token="t")


@pytest.mark.parametrize(
    ("name", "version", "fits"),
    [
        ("right", "2.1", True),
        ("wrong", "2.1", False),
        ("more", "2.9", False),
        ("sized", "2.4", False),
        ("sized", "2.5", True),
        ("nothing", "2.1", True),
    ],
)
@pytest.mark.parametrize("answers", ["error", "warn", "ignore"])
async def test_response_validation(
    name: str, version: str, answers: str, caplog: pytest.LogCaptureFixture, *, fits: bool
) -> None:
    with caplog.at_level(logging.WARNING, "kilonova.web"):
        answer = await client(answers).get(f"/things/{name}", version=version)
    if fits or answers != "error":
        assert answer.status == (200 if name in SAID else 202)
    else:
        assert answer.status == 500
        assert "does not fit its schema" in answer.json()["computeFault"]["message"]
    assert ("does not fit its schema" in caplog.text) == (not fits and answers != "ignore")
