"""Ranges, patches, content seen in any chunks, filters."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.base.errors import BadRequest, Conflict, Fault, Forbidden, UnsupportedMediaType
from kilonova.embedded.image import patch
from kilonova.embedded.image.content import Reader
from kilonova.embedded.image.ranges import Part, byte_range, content_range
from kilonova.embedded.image.records import Image
from kilonova.embedded.image.store.listing import moment, split_in

IMAGE = Image(
    id="i", name="n", status="queued", owner="p", visibility="shared", disk_format="raw",
    container_format="bare", size=None, virtual_size=None, min_disk=0, min_ram=0, protected=False,
    os_hidden=False, checksum=None, os_hash_algo=None, os_hash_value=None, created_at=0,
    updated_at=0, properties={"a": "1"},
)  # fmt: skip


def qcow2(size: int, *, backing: int = 0, features: int = 0) -> bytes:
    """The first bytes of a version 3 qcow2 image."""
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, backing, 0, 16, size, 0, 1, 65536, 65536, 1, 0, 0,
        features, 0, 0, 4, 104,
    )  # fmt: skip
    return header + b"\0" * (65536 * 3 - len(header))


@given(st.integers(0, 1000), st.integers(0, 1200), st.integers(0, 1200))
def test_ranges_stay_inside(size: int, first: int, last: int) -> None:
    try:
        found = byte_range(f"bytes={first}-{last}", size)
    except ValueError:
        assert first >= size or first > last
        return
    assert found is not None
    assert 0 <= found.first <= found.last < size


@pytest.mark.parametrize("header", ["", "bytes=-", "bytes=a-1", "bytes=1-2,4-5", "items=0-1"])
def test_bad_ranges(header: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|items|^$"):
        byte_range(header, 100)


def test_content_ranges() -> None:
    assert content_range(None) is None
    assert content_range("bytes 0-9/20") == Part(0, 9, 20)
    assert content_range("bytes */20") == Part(-1, -2, 20)
    for bad in ("bytes 9-0/20", "bytes 0-20/20", "bytes 0-9/*", "0-9/20", "bytes 0-9"):
        with pytest.raises(BadRequest):
            content_range(bad)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 70000), min_size=1, max_size=20))
def test_content_is_the_same_in_any_chunks(cuts: list[int]) -> None:
    data = qcow2(1 << 30)
    reader = Reader("qcow2", "bare")
    start = 0
    for cut in [*cuts, len(data)]:
        reader.feed(data[start : start + cut])
        start += cut
    content = reader.finish()
    assert content.size == len(data)
    assert content.virtual_size == 1 << 30
    assert content.checksum == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        ("qcow2", qcow2(1 << 20, backing=512)),
        ("qcow2", qcow2(1 << 20, features=4)),
        ("qcow2", b"no image" * 100),
        ("raw", qcow2(1 << 20)),
        ("ari", qcow2(1 << 20)),
        ("vmdk", b'# Disk\ncreateType="monolithicFlat"\nRW 1 FLAT "/etc/passwd" 0\n'),
    ],
)  # fmt: skip
def test_content_that_is_refused(declared: str, data: bytes) -> None:
    reader = Reader(declared, "bare")
    with pytest.raises(UnsupportedMediaType):
        reader.feed(data)
        reader.finish()


def test_content_of_another_format_passes_when_told_so_but_never_unsafe() -> None:
    reader = Reader("raw", "bare", match=False)
    reader.feed(qcow2(1 << 20))
    assert reader.finish().virtual_size == 1 << 20
    reader = Reader("raw", "bare", match=False)
    reader.feed(qcow2(1 << 20, backing=512))
    with pytest.raises(UnsupportedMediaType):
        reader.finish()


def refuse(rule: str) -> None:
    """A caller without any rights."""
    raise Forbidden(rule)


def test_patches_are_pure() -> None:
    operations = patch.parse(
        [
            {"op": "add", "path": "/b", "value": "2"},
            {"op": "remove", "path": "/a"},
            {"op": "replace", "path": "/visibility", "value": "private"},
        ]
    )
    changed = patch.apply(IMAGE, operations, refuse)
    assert changed.properties == {"b": "2"}
    assert changed.visibility == "private"
    assert IMAGE.properties == {"a": "1"}
    with pytest.raises(Forbidden, match="publicize"):
        patch.apply(IMAGE, [patch.Operation("replace", "visibility", "public")], refuse)
    with pytest.raises(Conflict):
        patch.apply(IMAGE, [patch.Operation("replace", "b", "x")], refuse)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["op", "path", "value", "add", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_patch_is_applied_or_refused(body: object) -> None:
    try:
        patch.apply(IMAGE, patch.parse(body), refuse)
    except Fault as fault:
        assert 400 <= fault.status < 500


def test_in_filters() -> None:
    assert split_in('a,"b,c",d') == ["a", "b,c", "d"]
    for bad in ('"a', '"a"b'):
        with pytest.raises(BadRequest):
            split_in(bad)
    assert moment("gt:1970-01-01T00:00:01Z") == ("gt", 1_000_000)
    assert moment("1970-01-01T01:00:00+01:00") == ("eq", 0)
