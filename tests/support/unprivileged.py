"""Running something as the user nobody, though checkout and interpreter may lie in /root.

``python unprivileged.py HOME PATH... -- COMMAND...`` must run in a mount namespace of its own, as
root: directories on the way to each PATH that only root may enter are covered by empty ones, with
the paths bound into them again, as they are. Then COMMAND runs as nobody with the home HOME.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path

USER = "nobody"


def main(words: list[str]) -> None:
    """Cover, bind, change the user, run."""
    at = words.index("--")
    home, paths, command = Path(words[0]), [Path(word) for word in words[1:at]], words[at + 1 :]
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    closed = sorted({shut for path in paths if (shut := barrier(path)) is not None})
    for directory in closed:
        open_up(directory, [path for path in paths if path.is_relative_to(directory)], home)
    who = pwd.getpwnam(USER)
    os.setgroups([])
    os.setgid(who.pw_gid)
    os.setuid(who.pw_uid)
    env = {**os.environ, "HOME": str(home), "USER": USER, "LOGNAME": USER}
    os.execvpe(command[0], command, env)


def barrier(path: Path) -> Path | None:
    """The first directory on the way to a path that others may not enter."""
    for each in reversed(path.parents):
        if not each.stat().st_mode & 0o001:
            return each
    return None


def open_up(directory: Path, paths: list[Path], home: Path) -> None:
    """Cover a directory by an empty one that holds nothing but the paths."""
    kept = Path(tempfile.mkdtemp(prefix=".kept-", dir=home))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", kept], check=True)
    kept.chmod(0o755)
    for path in paths:
        target = kept / path.relative_to(directory)
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "--rbind", path, target], check=True)
    subprocess.run(["mount", "--rbind", kept, directory], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
