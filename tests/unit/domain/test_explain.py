"""Reasons as users may read them: without hosts."""

from __future__ import annotations

from kilonova.domain.explain import OPERATOR, Change


def test_what_is_public_names_no_host() -> None:
    inner = Change("up", "A host must come back.", who=OPERATOR, host="h2")
    change = Change("several", "Both.", cost=2.0, args={"name": "x"}, host="h1", parts=(inner,))
    public = change.public()
    assert (public.host, public.parts[0].host) == ("", "")
    assert (public.kind, public.text, public.cost, public.args) == (
        *("several", "Both.", 2.0),
        {"name": "x"},
    )
    assert public.parts[0].who == OPERATOR
    assert change.host == "h1"
