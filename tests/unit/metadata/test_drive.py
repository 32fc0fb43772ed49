from __future__ import annotations

import json

from kilonova.metadata import drive, openstack
from tests.support.described import guest


def test_every_version_is_on_the_drive() -> None:
    files = drive.content(guest(), openstack.Extras(random=lambda n: b"r" * n))
    for version in (*openstack.VERSIONS, "latest"):
        doc = json.loads(files[f"openstack/{version}/meta_data.json"])
        assert doc["admin_pass"] == "s3cret"
        assert files[f"openstack/{version}/user_data"] == b"#!/bin/sh\ntrue\n"
    assert files["openstack/content/0000"] == b"hello"
    ec2 = json.loads(files["ec2/2009-04-04/meta-data.json"])
    assert ec2["public-keys"]["0"]["openssh-key"].startswith("ssh-ed25519")
    assert not any(name.endswith("password") for name in files)


def test_versions_can_be_left_out() -> None:
    extras = openstack.Extras(random=lambda n: b"r" * n)
    files = drive.content(guest(), extras, skip=frozenset({"2012-08-10"}))
    assert not any("2012-08-10" in name for name in files)
