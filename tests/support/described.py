"""Ready-made guests for tests."""

from __future__ import annotations

import base64

from kilonova.domain.guest import (
    Disk,
    FixedIp,
    FlavorSpec,
    GuestMetadata,
    GuestSpec,
    ImageRef,
    InjectedFile,
    Keypair,
    Nic,
)

SERVER = "3a7b8a0e-9f43-4b8e-8f1d-0a4a3d1c5b11"
PROJECT = "0" * 31 + "1"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEqU someone"


def guest(**changes: object) -> GuestSpec:
    """A small guest with one card, one key, user data and a file."""
    spec = GuestSpec(
        server_id=SERVER,
        name="instance-0000002a",
        flavor=FlavorSpec(1, "1", "m1.tiny", 1, 512, 1),
        image=ImageRef("f0d0c3f4-7c0e-4f52-9b5a-1d1f8a6d2b11", "tiny", size=1000),
        disks=(Disk("d1", "root", "image", "vda", boot_index=0),),
        nics=(
            Nic(
                port_id="11111111-2222-4333-8444-555555555555",
                mac="fa:16:3e:00:00:01",
                network_id="net1",
                network_label="private",
                device="tap11111111-22",
                bridge="brq1",
                mtu=1450,
                tag="front",
                ips=(
                    FixedIp(
                        "10.0.0.5",
                        "sub1",
                        "10.0.0.0/24",
                        gateway="10.0.0.1",
                        dns=("10.0.0.2",),
                        floating=("203.0.113.5",),
                    ),
                    FixedIp(
                        "2001:db8::5",
                        "sub2",
                        "2001:db8::/64",
                        version=6,
                        gateway="2001:db8::1",
                        ipv6_mode="slaac",
                    ),
                ),
            ),
        ),
        metadata=GuestMetadata(
            server_id=SERVER,
            project_id=PROJECT,
            user_id="u1",
            name="web 1",
            hostname="web-1",
            reservation_id="r-abc",
            meta={"role": "front"},
            keys=(Keypair("mine", KEY),),
            user_data=base64.b64encode(b"#!/bin/sh\ntrue\n").decode(),
            admin_pass="s3cret",
            files=(InjectedFile("/etc/motd", base64.b64encode(b"hello").decode()),),
        ),
    )
    import msgspec

    return msgspec.structs.replace(spec, **changes)
