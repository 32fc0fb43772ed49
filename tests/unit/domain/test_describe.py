"""A guest described from its server's rows."""

from __future__ import annotations

import msgspec

from kilonova.domain.describe import DEFAULT_ZONE, guest_spec
from kilonova.domain.guest import InjectedFile
from kilonova.domain.server import Private
from tests.support import compute

SERVER = msgspec.structs.replace(compute.server(), number=42)
PRIVATE = Private(disks=(compute.DISK,), nics=(compute.NIC,), user_data="dXNlcg==")


def test_everything_a_guest_is_made_of() -> None:
    guest = guest_spec(SERVER, PRIVATE, admin_pass="pw", files=(InjectedFile("/a", "Yg=="),))
    assert guest.name == "instance-0000002a"
    assert (guest.disks, guest.nics) == ((compute.DISK,), (compute.NIC,))
    assert guest.root_device == "vda"
    assert guest.properties == {"os_distro": "debian"}
    assert guest.metadata.availability_zone == DEFAULT_ZONE
    assert (guest.metadata.user_data, guest.metadata.admin_pass) == ("dXNlcg==", "pw")
    assert [file.path for file in guest.metadata.files] == ["/a"]
    assert not guest.launched


def test_fresher_cards_than_those_kept() -> None:
    assert guest_spec(SERVER, PRIVATE, nics=()).nics == ()


def test_a_key_needs_name_and_text() -> None:
    named = msgspec.structs.replace(SERVER, key_name="mine")
    keyed = msgspec.structs.replace(PRIVATE, public_key="ssh-ed25519 AAAA")
    assert guest_spec(named, PRIVATE).metadata.keys == ()
    assert guest_spec(SERVER, keyed).metadata.keys == ()
    (key,) = guest_spec(named, keyed).metadata.keys
    assert (key.name, key.public_key, key.type) == ("mine", "ssh-ed25519 AAAA", "ssh")


def test_without_an_image() -> None:
    bare = msgspec.structs.replace(SERVER, image=None, root_device=None)
    guest = guest_spec(bare, PRIVATE)
    assert (guest.properties, guest.root_device) == ({}, "vda")
