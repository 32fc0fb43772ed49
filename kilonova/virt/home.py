"""A guest's directory, and to whom it belongs."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

from kilonova.virt import consolelog, records


class Home:
    """``path`` holds all of one guest; ``user`` is whom its process runs as (None: as we do).

    ``mode``: who else may enter the directory, nobody when not told.
    """

    def __init__(self, path: Path, user: str | None, *, mode: int = 0o700) -> None:
        self.path = path
        self._mode = mode
        self.user = user if os.geteuid() == 0 else None

    def make(self) -> None:
        """Make the directory."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(self._mode)
        self.own(self.path)

    def own(self, path: Path) -> None:
        """Give a file to the guest's user."""
        if self.user is not None:
            who = pwd.getpwnam(self.user)
            os.chown(path, who.pw_uid, who.pw_gid)

    def hand_over(self, files: Iterable[str]) -> None:
        """Give the disks' files, and an empty console log, to the guest's user."""
        log = self.path / consolelog.FILE
        log.touch(mode=0o600)
        for path in (log, *(Path(file) for file in files)):
            self.own(path)

    def announce(self, ports: Iterable[int]) -> None:
        """Begin the boot's console log with how a guest on a user-mode network is reached."""
        for port in ports:
            with (self.path / consolelog.FILE).open("ab") as log:
                log.write(b"host: port 22 of this guest is 127.0.0.1:%d (ssh -p)\r\n" % port)

    def remove(self) -> None:
        """Remove it with all in it; the record last, so that a broken-off removal is found."""
        if not self.path.exists():
            return
        for entry in sorted(self.path.iterdir(), key=lambda e: e.name == records.FILE):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
        self.path.rmdir()
