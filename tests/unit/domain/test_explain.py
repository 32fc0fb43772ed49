"""What is told of changes."""

from __future__ import annotations

from kilonova.domain.explain import Change


def test_the_public_form_names_no_host() -> None:
    part = Change("enable", "A host is enabled.", "operator", host="h1")
    whole = Change("several", "Both.", host="h2", parts=(part, Change("hint", "No hint.")))
    shown = whole.public()
    assert (shown.host, [one.host for one in shown.parts]) == ("", ["", ""])
    assert shown.parts[0].text == part.text
