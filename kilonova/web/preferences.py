"""What a client asks for beyond the API it speaks: the request header ``Prefer`` (RFC 7240)."""

from __future__ import annotations

ERROR_CODE = "error-code"


def preferences(raw: bytes | None) -> frozenset[str]:
    """The names of the preferences in a header's value, in lower case; parameters are ignored."""
    if raw is None:
        return frozenset()
    words = raw.decode("latin-1").lower().split(",")
    return frozenset(word.partition(";")[0].partition("=")[0].strip() for word in words) - {""}
