"""What stands on a config drive: both trees as files, every version."""

from __future__ import annotations

import msgspec

from kilonova.domain.guest import GuestSpec
from kilonova.metadata import ec2, openstack

EC2_VERSIONS = (*ec2.VERSIONS, ec2.LATEST)


def content(
    guest: GuestSpec, extras: openstack.Extras, *, skip: frozenset[str] = frozenset()
) -> dict[str, bytes]:
    """Path → bytes. ``skip``: versions to leave out (``[DEFAULT] config_drive_skip_versions``).

    The administrator's password is in ``meta_data.json`` here, unlike over HTTP.
    """
    files: dict[str, bytes] = {}
    for version in (*openstack.VERSIONS, openstack.LATEST):
        if version in skip:
            continue
        actual = openstack.real(version) or version
        for name in openstack.listing(guest, actual):
            if name == "password":
                continue
            if name == "meta_data.json":
                document = openstack.meta_data(guest, actual, extras, with_password=True)
                data = msgspec.json.encode(document)
            else:
                read = openstack.read(guest, actual, name, extras)
                if read is None:
                    continue
                data = read
            files[f"openstack/{version}/{name}"] = data
    for index in range(len(guest.metadata.files)):
        name = openstack.content_name(index)
        files[f"openstack/content/{name}"] = openstack.content(guest, name) or b""
    for version in EC2_VERSIONS:
        if version in skip:
            continue
        actual = ec2.real(version) or version
        tree = ec2.plain(ec2.meta_data(guest, actual, extras.dhcp_domain))
        files[f"ec2/{version}/meta-data.json"] = msgspec.json.encode(tree)
        if guest.metadata.user_data is not None:
            files[f"ec2/{version}/user-data"] = openstack.user_data(guest)
    return files
