"""``[libvirt]``, ``[qemu]``, and the sections of consoles: how guests are run and looked at."""

from __future__ import annotations

from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Libvirt(msgspec.Struct, frozen=True):
    """``[libvirt]``: also read by the plain QEMU driver where the meaning is the same."""

    connection_uri: Annotated[
        str | None, Opt("Which libvirt guests are made by; qemu:///system when unset.")
    ] = None

    virt_type: Annotated[
        str,
        Opt(
            "kvm, qemu (emulation), or auto: kvm where it truly works.",
            choices=("auto", "kvm", "qemu"),
        ),
    ] = "auto"
    device_detach_attempts: Annotated[
        int, Opt("How often a running guest is asked to let go of a device.", min=1)
    ] = 8
    device_detach_timeout: Annotated[int, Opt("Seconds it may take each time.", min=1)] = 20
    wait_soft_reboot_seconds: Annotated[
        int, Opt("How long a guest may take to react to a soft reboot.", min=0)
    ] = 120
    snapshot_image_format: Annotated[
        str | None,
        Opt(
            "Disk format of images made of servers; that of the server's disk when unset.",
            choices=("raw", "qcow2", "vmdk", "vdi"),
        ),
    ] = None
    snapshot_compression: Annotated[bool, Opt("Compress such images where they are qcow2.")] = False
    snapshots_directory: Annotated[
        str | None,
        Opt("Where disks are copied before they are uploaded; the guest's own directory if unset."),
    ] = None
    volume_use_multipath: Annotated[
        bool, Opt("Reach volumes by several paths at once; needs [cinder] os_brick.")
    ] = False
    volume_enforce_multipath: Annotated[
        bool, Opt("Refuse to connect volumes while multipathd does not run.")
    ] = False
    num_volume_scan_tries: Annotated[
        int, Opt("How often a host looks for a volume's device.", min=1)
    ] = 5
    nfs_mount_options: Annotated[
        str | None, Opt("Options of mount for file shares, as in nfs(5).")
    ] = None
    tb_cache_size: Annotated[
        int | None, Opt("Translation cache of an emulated guest in MiB; by size when unset.", min=1)
    ] = None
    rng_dev_path: Annotated[str, Opt("Where guests' random bytes come from.")] = "/dev/urandom"
    cpu_mode: Annotated[
        str | None,
        Opt(
            "Guests' CPU: the host's model, the host's very CPU, the most the hypervisor can, a "
            "model of cpu_models (custom), or its default (none). Unset: host-model under KVM, "
            "qemu64 under emulation.",
            choices=("host-model", "host-passthrough", "maximum", "custom", "none"),
        ),
    ] = None
    cpu_models: Annotated[
        tuple[str, ...], Opt("Models for cpu_mode custom; the first is what guests get.")
    ] = ()
    cpu_model_extra_flags: Annotated[
        tuple[str, ...], Opt("CPU features guests get beside the model (-name: do not get).")
    ] = ()
    hw_machine_type: Annotated[
        tuple[str, ...], Opt("Machine types of images that ask for none, as x86_64=q35.")
    ] = ()
    num_pcie_ports: Annotated[
        int,
        Opt("PCI Express slots of guests; what they need and 8 more when 0.", min=0, max=28),
    ] = 0
    rescue_image_id: Annotated[
        str | None, Opt("Image servers are rescued with that ask for none; their own when unset.")
    ] = None
    mem_stats_period_seconds: Annotated[
        int, Opt("How often a guest's balloon counts its memory; 0 or less: never.")
    ] = 10

    live_migration_inbound_addr: Annotated[
        str | None, Opt("Address other hosts send running guests to; my_ip when unset.")
    ] = None
    live_migration_bandwidth: Annotated[
        int, Opt("MiB/s a moving guest may use; 0: what the hypervisor takes.", min=0)
    ] = 0
    live_migration_downtime: Annotated[
        int, Opt("Milliseconds a moving guest may stand still at most.", min=100)
    ] = 500
    live_migration_downtime_steps: Annotated[
        int, Opt("In how many steps that is allowed.", min=3)
    ] = 10
    live_migration_downtime_delay: Annotated[
        int, Opt("Seconds between two steps, for each GiB of the guest.", min=3)
    ] = 75
    live_migration_completion_timeout: Annotated[
        int,
        Opt("Seconds a move may take for each GiB of the guest; 0: any.", min=0, mutable=True),
    ] = 800
    live_migration_timeout_action: Annotated[
        str,
        Opt(
            "What is done with a move that takes longer: it is given up, or forced to its end.",
            choices=("abort", "force_complete"),
            mutable=True,
        ),
    ] = "abort"
    live_migration_permit_auto_converge: Annotated[
        bool, Opt("Slow down the CPUs of a guest that changes its memory faster than it is sent.")
    ] = False
    live_migration_parallel_connections: Annotated[
        int, Opt("Connections a guest's memory is sent by.", min=1)
    ] = 1
    live_migration_with_native_tls: Annotated[
        bool, Opt("Encrypt disks and memory on their way; both hosts need certificates.")
    ] = False


class Qemu(msgspec.Struct, frozen=True):
    """``[qemu]``: the plain QEMU driver."""

    binary: Annotated[str, Opt("The emulator.")] = "qemu-system-x86_64"
    user: Annotated[
        str | None, Opt("User the guests' processes run as when the agent runs as root.")
    ] = None
    cpu_model: Annotated[
        str | None, Opt("CPU model; host under KVM and qemu64 under emulation when unset.")
    ] = None
    machine_type: Annotated[str, Opt("Machine type of images that ask for none.")] = "pc"
    sandbox: Annotated[bool, Opt("Confine guests' processes with seccomp.")] = True
    ssh_port_range: Annotated[
        str, Opt("Ports of 127.0.0.1 forwarded to port 22 of guests with user-mode networking.")
    ] = "22000:31999"
    migration_port_range: Annotated[
        str, Opt("Ports on which guests that come from other hosts wait for their memory.")
    ] = "49152:49215"
    migration_tls_dir: Annotated[
        str, Opt("Certificates for live_migration_with_native_tls, by QEMU's names.")
    ] = "/etc/pki/qemu"
    start_seconds: Annotated[
        int, Opt("How long the emulator may take to answer after its start.", min=1)
    ] = 60


class Vnc(msgspec.Struct, frozen=True):
    """``[vnc]``."""

    enabled: Annotated[bool, Opt("Give guests a VNC console.")] = True
    server_listen: Annotated[str, Opt("Address the guests' VNC servers listen on.")] = "127.0.0.1"
    server_proxyclient_address: Annotated[
        str, Opt("Address under which the proxies reach this host.")
    ] = "127.0.0.1"
    novncproxy_base_url: Annotated[str, Opt("Where users find the VNC proxy.")] = (
        "http://127.0.0.1:6080/vnc_auto.html"
    )


class Spice(msgspec.Struct, frozen=True):
    """``[spice]``."""

    enabled: Annotated[bool, Opt("Give guests a SPICE console.")] = False
    html5proxy_base_url: Annotated[str, Opt("Where users find the SPICE proxy.")] = (
        "http://127.0.0.1:6082/spice_auto.html"
    )
    spice_direct_proxy_base_url: Annotated[
        str, Opt("Where users find the proxy of native SPICE clients.")
    ] = "http://127.0.0.1:13002/nova"


class Mks(msgspec.Struct, frozen=True):
    """``[mks]``."""

    enabled: Annotated[bool, Opt("Whether hypervisors offer MKS consoles.")] = False
    mksproxy_base_url: Annotated[str, Opt("Where users find the MKS proxy.")] = (
        "http://127.0.0.1:6090/"
    )


class Consoleauth(msgspec.Struct, frozen=True):
    """``[consoleauth]``."""

    token_ttl: Annotated[int, Opt("Seconds a console's URL is good for.", min=0)] = 600


class SerialConsole(msgspec.Struct, frozen=True):
    """``[serial_console]``."""

    enabled: Annotated[bool, Opt("Serve the guests' serial consoles over TCP.")] = False
    port_range: Annotated[str, Opt("Ports of the guests' serial consoles.")] = "10000:20000"
    proxyclient_address: Annotated[
        str, Opt("Address of this host the consoles listen on, and the proxies connect to.")
    ] = "127.0.0.1"
    base_url: Annotated[str, Opt("Where users find the serial proxy.")] = "ws://127.0.0.1:6083/"
