"""Lays out the guest's file tree from unpacked packages: initramfs, and the agent's directory."""

from __future__ import annotations

import re
import shutil
import struct
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from . import cpio
from .tools import GuestImageError, run

MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_scsi",
    "virtio_balloon",
    "virtio-rng",
    "virtio_mem",
    "sd_mod",
    "sr_mod",
    "ata_piix",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "evdev",
    "button",
)
_SIGNATURE_MARK = b"~Module signature appended~\n"
_LOADER = "lib64/ld-linux-x86-64.so.2"
_DIRECTORIES = ("bin", "sbin", "etc", "lib", "lib64", "usr/bin", "usr/sbin", "usr/share", "dev",
                "proc", "sys", "run", "var", "var/log", "mnt", "data", "home",
                "etc/dropbear", "lib/modules")  # fmt: skip


def kernel_version(packages: Path) -> str:
    """The version of the unpacked kernel."""
    found = sorted((packages / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        raise GuestImageError("The kernel package holds no kernel: empty the cache and try again.")
    return found[0].name.removeprefix("vmlinuz-")


async def libraries(packages: Path, program: Path) -> dict[str, Path]:
    """Shared libraries a program needs, taken from the unpacked packages: soname → file."""
    folders = [
        packages / folder / "x86_64-linux-gnu"
        for folder in ("lib", "usr/lib")
        if (packages / folder / "x86_64-linux-gnu").is_dir()
    ]
    loader = next(
        (
            folder / Path(_LOADER).name
            for folder in folders
            if (folder / Path(_LOADER).name).exists()
        ),
        None,
    )
    if loader is None:
        raise GuestImageError("The C library's package holds no loader: empty the cache.")
    search = ":".join(str(folder) for folder in folders)
    text = await run(loader, "--inhibit-cache", "--library-path", search, "--list", program)
    found: dict[str, Path] = {}
    for name, target in re.findall(r"^\s*(\S+) => (.+) \(0x[0-9a-f]+\)$", text, re.MULTILINE):
        path = Path(target)
        if "/" in name:
            continue
        if not path.is_relative_to(packages):
            raise GuestImageError(f"{program.name} needs {name}, which no fetched package holds.")
        found[name] = path
    found[Path(_LOADER).name] = loader
    return found


def _program(packages: Path, name: str) -> Path:
    for folder in ("bin", "sbin", "usr/bin", "usr/sbin"):
        path = packages / folder / name
        if path.is_file():
            return path
    raise GuestImageError(f"No fetched package holds the program {name}: empty the cache.")


async def module_entries(packages: Path) -> list[cpio.Entry]:
    """The kernel modules, and for each wanted one a ``.list`` of files in loading order."""
    version = kernel_version(packages)
    await run("depmod", "-b", packages, version)
    home = packages / "lib" / "modules" / version
    if not home.is_dir():
        home = packages / "usr" / "lib" / "modules" / version
    needs: dict[str, list[str]] = {}
    for line in (home / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_module_name(path): path for path in needs}
    entries: dict[str, cpio.Entry] = {}
    for wanted in MODULES:
        path = by_name.get(wanted.replace("-", "_"), "")
        if not path:
            continue
        lines = []
        # modules.dep names the direct need first and the deepest last.
        for each in [*reversed(needs[path]), path]:
            name = Path(each).name
            lines.append(f"{name} {_module_name(each)}\n")
            entries[name] = cpio.file(
                f"lib/modules/{name}", without_signature((home / each).read_bytes())
            )
        entries[wanted] = cpio.file(f"lib/modules/{wanted}.list", "".join(lines).encode())
    return list(entries.values())


def without_signature(module: bytes) -> bytes:
    """The module without its signature, whose check takes an emulated processor very long.

    The signature's length is the last field of the 12 bytes before the mark (kernel
    documentation, module-signing).
    """
    if not module.endswith(_SIGNATURE_MARK):
        return module
    body = module.removesuffix(_SIGNATURE_MARK)
    (length,) = struct.unpack(">I", body[-4:])
    return body[: len(body) - 12 - length]


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")


def _script_entries(source: Traversable, prefix: str = "") -> list[cpio.Entry]:
    entries: list[cpio.Entry] = []
    for item in source.iterdir():
        path = f"{prefix}{item.name}"
        if item.is_dir():
            entries.append(cpio.directory(path))
            entries += _script_entries(item, f"{path}/")
        else:
            content = item.read_bytes()
            entries.append(cpio.file(path, content, 0o755 if content[:2] == b"#!" else 0o644))
    return entries


async def initramfs(packages: Path) -> bytes:
    """The guest's root file system as a cpio archive, not compressed.

    The image's compression is undone by the host at full speed; the guest's own would be
    undone by an emulated processor.
    """
    busybox = _program(packages, "busybox")
    entries = [cpio.directory(path) for path in _DIRECTORIES]
    entries += _script_entries(files(__package__) / "rootfs")
    entries += await module_entries(packages)
    used: dict[str, Path] = {}
    entries.append(cpio.file("bin/busybox", busybox.read_bytes(), 0o755))
    for name in ("dropbear", "dropbearkey"):
        program = _program(packages, name)
        entries.append(cpio.file(f"bin/{name}", program.read_bytes(), 0o755))
        used |= await libraries(packages, program)
    for name, path in used.items():
        folder = "lib64" if name == Path(_LOADER).name else "lib"
        entries.append(cpio.file(f"{folder}/{name}", path.read_bytes(), 0o755))
    taken = {entry.path for entry in entries}
    applets = (await run(busybox, "--list")).split()
    for applet in applets:
        if f"bin/{applet}" not in taken and f"sbin/{applet}" not in taken:
            entries.append(cpio.link(f"bin/{applet}", "busybox"))
    entries += [
        cpio.link("init", "bin/busybox"),
        cpio.link("sbin/init", "../bin/busybox"),
        cpio.link("sbin/getty", "../bin/busybox"),
        cpio.link("sbin/reboot", "../bin/busybox"),
        cpio.link("root", "data/root"),
        cpio.link("home/cloud", "/data/home"),
        cpio.link("tmp", "data/tmp"),
        cpio.link("var/run", "/run"),
        cpio.file("etc/resolv.conf", b""),
        cpio.character_device("dev/console", 5, 1),
    ]
    return cpio.archive({entry.path: entry for entry in entries}.values())


async def state_tree(packages: Path, into: Path) -> None:
    """The state partition's first content: its mark, the guest agent and its libraries."""
    agent = into / "agent"
    agent.mkdir(parents=True)
    (into / "kilonova").write_text("state of the guest: host key, boot counter, home directories\n")
    program = _program(packages, "qemu-ga")
    shutil.copyfile(program, agent / "qemu-ga")
    (agent / "qemu-ga").chmod(0o755)
    for name, path in (await libraries(packages, program)).items():
        if not name.startswith(("libc.so", "ld-linux")):
            shutil.copyfile(path, agent / name)
