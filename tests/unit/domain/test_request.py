"""Requests to the scheduler, and the reasons there is no host."""

from __future__ import annotations

from kilonova.domain.request import Cut, HostRef, Selection, request_of
from kilonova.domain.server import BuildSpec
from tests.support import compute


def test_a_request_from_a_server_and_what_was_said() -> None:
    spec = BuildSpec(zone="az1", host="h1", hints={"group": "g", "many": [1, "two"]})
    request = request_of(compute.server(), spec, ignore_hosts=("h9",))
    assert request.num_instances == 1
    assert (request.availability_zone, request.force_host) == ("az1", "h1")
    assert request.ignore_hosts[-1] == "h9"
    assert request.properties == {"os_distro": "debian"}
    assert (request.hint("group"), request.hint("many")) == (["g"], ["1", "two"])
    assert request.hint("none") == []


def test_why_there_is_no_host() -> None:
    reasons = {f"h{n}": "no room" for n in range(7)}
    none = Selection((), (Cut("ram", 9, 2, reasons), Cut("zone", 2, 2, {}), Cut("cpu", 2, 0, {})))
    said = none.reason
    assert said.startswith("No valid host was found. ram left 2 of 9 (h0: no room;")
    assert "and 2 more" in said
    assert "zone" not in said
    assert said.endswith("cpu left 0 of 2.")
    assert "not enough hosts" in Selection(()).reason
    found = Selection(((HostRef("h", "h", "p", "c", {}),),))
    assert found.reason == ""
