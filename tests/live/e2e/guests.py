"""Logging in to guests of a running cloud with the ordinary ``ssh`` client."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.support.namespace import Failed
from tests.support.running import Running, until

BOOT_SECONDS = 90.0
DRIVE = "/run/drive"


class Login:
    """One guest by address and key, from the namespace of the cloud."""

    def __init__(self, cloud: Running, key: Path, address: str, port: int = 22) -> None:
        self._cloud = cloud
        self._words = (
            *("ssh", "-i", str(key), "-p", str(port), "-F", "none", "-o", "BatchMode=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"),
            f"root@{address}",
        )

    def run(self, command: str, *, check: bool = True) -> str:
        """Standard output of a command in the guest, stripped; empty when it may fail and does."""
        done = self._cloud.space.run(*self._words, command, check=False, seconds=30)
        if done.returncode != 0:
            if check:
                raise Failed(f"{command}: {done.stdout}{done.stderr}\n{self._cloud.log()[-2000:]}")
            return ""
        return done.stdout.strip()

    def wait(self, seconds: float = BOOT_SECONDS) -> str:
        """Wait until somebody answers; the host name inside."""
        return until(lambda: self.run("hostname", check=False), seconds, "SSH of the guest")

    def boots(self) -> int:
        """How many times the guest has booted; 0 while it does not answer."""
        return int(self.run("test -e /run/ready && cat /data/boots", check=False) or 0)

    def mac(self) -> str:
        """The address of the guest's first card."""
        return self.run("cat /sys/class/net/eth0/address")

    def service(self, path: str) -> str:
        """A document of the metadata service, as the guest gets it."""
        return self.run(f"wget -q -O - http://169.254.169.254/{shlex.quote(path)}")

    def drive(self, path: str) -> str:
        """A file of the config drive, as the guest reads it."""
        self.run(
            f"mkdir -p {DRIVE}; . /lib/guest/functions; load isofs; for disk in /dev/vd? /dev/sr?; "
            f"do [ -e {DRIVE}/openstack ] || mount -t iso9660 -o ro $disk {DRIVE} 2>/dev/null; "
            f"done; [ -e {DRIVE}/openstack ]"
        )
        return self.run(f"cat {DRIVE}/{shlex.quote(path)}")
