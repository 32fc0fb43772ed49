"""``[DEFAULT]``: what every service shares."""

from __future__ import annotations

import socket
from typing import Annotated

import msgspec

from kilonova.config.section import Opt


class Default(msgspec.Struct, frozen=True):
    """``[DEFAULT]``."""

    host: Annotated[str, Opt("Name this host goes by in services, placement and the bus.")] = (
        socket.gethostname()
    )
    my_ip: Annotated[str, Opt("Address of this host towards the other hosts.")] = "127.0.0.1"
    my_shared_fs_storage_ip: Annotated[
        str | None, Opt("Address of this host towards shared file systems; my_ip without it.")
    ] = None
    state_path: Annotated[str, Opt("Directory of everything that must survive a restart.")] = (
        "/var/lib/nova"
    )
    max_concurrent_live_migrations: Annotated[
        int, Opt("How many guests leave a host at the same time while they run; 0: any.", min=0)
    ] = 1
    service_down_time: Annotated[
        int, Opt("Seconds without a sign of life after which a service counts as down.", min=1)
    ] = 60
    default_availability_zone: Annotated[str, Opt("Zone of hosts that are in no other.")] = "nova"
    internal_service_availability_zone: Annotated[str, Opt("Zone of everything but computes.")] = (
        "internal"
    )
    default_schedule_zone: Annotated[
        str | None, Opt("Zone of servers that ask for none; any zone when unset.")
    ] = None
    osapi_compute_unique_server_name_scope: Annotated[
        str, Opt("Where a server's name must be unique.", choices=("", "project", "global"))
    ] = ""
    instances_path: Annotated[
        str | None, Opt("Directory of the guests' disks; $state_path/instances when unset.")
    ] = None
    transport_url: Annotated[
        str | None, Opt("Where the broker is, rabbit://user:password@host:port/vhost.", secret=True)
    ] = None
    control_exchange: Annotated[str, Opt("The exchange notifications are published to.")] = "nova"
    instance_usage_audit: Annotated[
        bool, Opt("Send instance.exists for every server of a host after each audit period.")
    ] = False
    volume_usage_poll_interval: Annotated[
        int, Opt("Seconds between volume.usage notifications of volumes in use; 0 never.", min=0)
    ] = 0
    instance_usage_audit_period: Annotated[
        str,
        Opt("hour, day, month or year; month@15 begins on the 15th, day@6 at six o'clock (UTC)."),
    ] = "month"
    non_inheritable_image_properties: Annotated[
        tuple[str, ...], Opt("Image properties that images made of servers do not get.")
    ] = ("cache_in_nova", "bittorrent")
    max_local_block_devices: Annotated[
        int, Opt("Local disks a server may have; 0 lets servers start from volumes only.", min=-1)
    ] = 3
    block_device_allocate_retries: Annotated[
        int, Opt("How often a new server's volume is looked at until it is ready.", min=0)
    ] = 60
    block_device_allocate_retries_interval: Annotated[
        int, Opt("Seconds between two looks.", min=0)
    ] = 3
    debug: Annotated[bool, Opt("Log debug lines too.", mutable=True)] = False
    use_json: Annotated[bool, Opt("Log one JSON object a line.")] = False
    log_file: Annotated[str | None, Opt("Log to this file instead of standard error.")] = None
    log_dir: Annotated[str | None, Opt("Log to a file named after the daemon in here.")] = None

    enabled_apis: Annotated[
        tuple[str, ...], Opt("What nova-api serves: osapi_compute, metadata.")
    ] = ("osapi_compute", "metadata")
    enabled_ssl_apis: Annotated[
        tuple[str, ...], Opt("Which of these have TLS (see [wsgi] ssl_cert_file).")
    ] = ()
    osapi_compute_listen: Annotated[str, Opt("Address of the Compute API.")] = "0.0.0.0"
    osapi_compute_listen_port: Annotated[int, Opt("Port of the Compute API.", min=0, max=65535)] = (
        8774
    )
    metadata_listen: Annotated[str, Opt("Address of the metadata service.")] = "0.0.0.0"
    metadata_listen_port: Annotated[int, Opt("Port of the metadata service.", min=0, max=65535)] = (
        8775
    )
    force_config_drive: Annotated[
        bool, Opt("Give every new server a config drive; for nova-api and nova-compute.")
    ] = False
    config_drive_format: Annotated[
        str, Opt("File system of config drives.", choices=("iso9660", "vfat"))
    ] = "iso9660"
    config_drive_skip_versions: Annotated[
        str, Opt("EC2 metadata versions left out of config drives, separated by spaces.")
    ] = "1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01"

    compute_driver: Annotated[
        str | None,
        Opt(
            "The virt driver: qemu.QemuDriver, libvirt.LibvirtDriver, fake.FakeDriver, or an entry "
            "point."
        ),
    ] = None
    vif_plugging_timeout: Annotated[
        int, Opt("Seconds the network service may take to open a new server's ports.", min=0)
    ] = 300
    vif_plugging_is_fatal: Annotated[
        bool, Opt("Whether a new server fails when its ports are not opened in that time.")
    ] = True
    shutdown_timeout: Annotated[
        int, Opt("Seconds a guest may take to shut down before its power is cut.", min=0)
    ] = 60
    rescue_timeout: Annotated[
        int, Opt("Seconds after which a rescued server goes back to its own disk; 0 never.", min=0)
    ] = 0
    reimage_timeout_per_gb: Annotated[
        int, Opt("Seconds a volume may take to be written anew, per GiB of the image.", min=1)
    ] = 20
    sync_power_state_interval: Annotated[
        int, Opt("Seconds between comparisons of rows and guests; below 0 never.")
    ] = 600
    heal_instance_info_cache_interval: Annotated[
        int, Opt("Seconds between looks at all servers' ports; 0 and below never: events suffice.")
    ] = -1
    report_interval: Annotated[int, Opt("Seconds between an agent's signs of life.", min=1)] = 10
    update_resources_interval: Annotated[
        int, Opt("Seconds between looks at the host's capacity; 0 means 60, -1 never.", min=-1)
    ] = 0
    max_concurrent_builds: Annotated[
        int, Opt("Guests a host makes at once; 0 for any number.", min=0)
    ] = 10
    graceful_shutdown_timeout: Annotated[
        int, Opt("Seconds a stopping service lets work under way finish.", min=0)
    ] = 180
    resume_guests_state_on_host_boot: Annotated[
        bool, Opt("Start guests again that ran when the host went down.")
    ] = False
    reclaim_instance_interval: Annotated[
        int, Opt("Seconds a deleted server can still be restored; 0 deletes at once.", min=0)
    ] = 0
    shelved_offload_time: Annotated[
        int,
        Opt(
            "Seconds a shelved server stays on its host; 0 takes it off at once, -1 never does.",
            min=-1,
        ),
    ] = 0
    shelved_poll_interval: Annotated[
        int, Opt("Seconds between looks for servers that were shelved long enough ago.", min=-1)
    ] = 3600
    allow_resize_to_same_host: Annotated[
        bool, Opt("A resized server may stay on its host, where the scheduler likes that best.")
    ] = False
    resize_confirm_window: Annotated[
        int, Opt("Seconds after which a resize is confirmed by itself; 0 never.", min=0)
    ] = 0
    force_raw_images: Annotated[bool, Opt("Convert cached images to raw.")] = True
    default_ephemeral_format: Annotated[
        str | None, Opt("File system of ephemeral disks; ext4 when unset.")
    ] = None
    cpu_allocation_ratio: Annotated[
        float | None, Opt("Virtual CPUs given out per physical one.", min=0)
    ] = None
    ram_allocation_ratio: Annotated[float | None, Opt("Memory over-commitment.", min=0)] = None
    disk_allocation_ratio: Annotated[float | None, Opt("Disk over-commitment.", min=0)] = None
    initial_cpu_allocation_ratio: Annotated[
        float, Opt("Ratio for a new host when cpu_allocation_ratio is unset.", min=0)
    ] = 4.0
    initial_ram_allocation_ratio: Annotated[
        float, Opt("Ratio for a new host when ram_allocation_ratio is unset.", min=0)
    ] = 1.0
    initial_disk_allocation_ratio: Annotated[
        float, Opt("Ratio for a new host when disk_allocation_ratio is unset.", min=0)
    ] = 1.0
    reserved_huge_pages: Annotated[
        tuple[str, ...],
        Opt("Pages of a NUMA node kept for the host: node:0,size:2048,count:64.", multi=True),
    ] = ()
    compute_monitors: Annotated[
        tuple[str, ...], Opt("What is measured of a host for schedulers: cpu.virt_driver.")
    ] = ()
    reserved_host_cpus: Annotated[int, Opt("CPUs kept for the host.", min=0)] = 0
    reserved_host_memory_mb: Annotated[int, Opt("MiB kept for the host.", min=0)] = 512
    reserved_host_disk_mb: Annotated[int, Opt("MiB of disk kept for the host.", min=0)] = 0
