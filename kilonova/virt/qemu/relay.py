"""Run by QEMU for each connection a guest makes to its metadata: joins it to the agent's socket.

Started by path with an isolated interpreter; needs nothing of the package.
"""

import os
import select
import socket
import sys
import time

CHUNK = 65536
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 120.0


def connect(path: str) -> socket.socket:
    """The agent's socket; waits a little for an agent that is being restarted."""
    folder, name = os.path.split(path)
    os.chdir(folder)
    end = time.monotonic() + CONNECT_SECONDS
    while True:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect(name)
            return link
        except OSError:
            link.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def pump(guest_in: int, guest_out: int, link: socket.socket) -> None:
    """Copy both ways until the agent closes its side or nothing moves for long."""
    sources: list[int | socket.socket] = [guest_in, link]
    while True:
        ready, _, _ = select.select(sources, [], [], IDLE_SECONDS)
        if not ready:
            return
        if guest_in in ready:
            data = os.read(guest_in, CHUNK)
            if data:
                link.sendall(data)
            else:
                sources.remove(guest_in)
                link.shutdown(socket.SHUT_WR)
        if link in ready:
            data = link.recv(CHUNK)
            if not data:
                return
            while data:
                data = data[os.write(guest_out, data) :]


def main() -> int:
    """0, or 1 when there is no agent."""
    try:
        with connect(sys.argv[1]) as link:
            pump(0, 1, link)
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
