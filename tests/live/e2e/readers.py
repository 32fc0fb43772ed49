"""What cloud-init makes of a metadata service or of a config drive, as JSON.

``python readers.py DIRECTORY`` reads a drive's files; ``python readers.py URL SERVER PROJECT
ADDRESS`` asks a metadata service as the proxy of the network does, with its secret on standard
input. Runs with an interpreter that has cloud-init; nothing of ours is imported.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import logging
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from cloudinit import helpers
from cloudinit.sources import DataSourceConfigDrive, DataSourceOpenStack
from cloudinit.sources.helpers import ec2, openstack

SECONDS = 30


class Proxy(http.server.BaseHTTPRequestHandler):
    """Stands where a network's proxy does: says which guest asks."""

    target = ""
    headers_sent: ClassVar[dict[str, str]] = {}

    def log_message(self, *words: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Pass a request on."""
        asked = urllib.request.Request(self.target + self.path, headers=self.headers_sent)
        try:
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                status, data = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, data = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def service(url: str, server: str, project: str, address: str, secret: str) -> dict[str, Any]:
    """The OpenStack data source's crawl, and the EC2 tree of every version."""
    Proxy.target = url
    Proxy.headers_sent = {
        "X-Instance-ID": server,
        "X-Tenant-ID": project,
        "X-Forwarded-For": address,
        "X-Instance-ID-Signature": hmac.new(
            secret.encode(), server.encode(), hashlib.sha256
        ).hexdigest(),
    }
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{proxy.server_port}"
    with tempfile.TemporaryDirectory() as home:
        source = DataSourceOpenStack.DataSourceOpenStack(
            {}, None, helpers.Paths({"cloud_dir": home, "run_dir": home})
        )
        source.ds_cfg = {"metadata_urls": [base], "max_wait": 10, "timeout": SECONDS, "retries": 1}
        source.distro = type("Debian", (), {"name": "debian"})()
        found: dict[str, Any] = source._crawl_metadata()
    with urllib.request.urlopen(f"{base}/", timeout=SECONDS) as answer:
        versions = answer.read().decode().split()
    trees = {
        version: ec2.get_instance_metadata(version, base, timeout=SECONDS, retries=1)
        for version in versions
    }
    proxy.shutdown()
    return {**found, "ec2": trees}


def drive(directory: str) -> dict[str, Any]:
    """What the config drive's data source reads, and its EC2 tree of every version."""
    found: dict[str, Any] = DataSourceConfigDrive.read_config_drive(directory)
    trees = {
        file.parent.name: json.loads(file.read_bytes())
        for file in Path(directory).glob("ec2/*/meta-data.json")
    }
    return {**found, "ec2": trees}


def network(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The network configuration that cloud-init makes of ``network_data.json``."""
    links = found["networkdata"]["links"]
    macs = {link["ethernet_mac_address"]: f"eth{i}" for i, link in enumerate(links)}
    made: list[dict[str, Any]] = openstack.convert_net_json(found["networkdata"], known_macs=macs)[
        "config"
    ]
    return made


def plain(value: object) -> object:
    """What JSON has no word for: bytes, as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def main() -> None:
    """Read, and tell."""
    logging.disable(logging.CRITICAL)
    if len(sys.argv) == 2:
        found = drive(sys.argv[1])
    else:
        url, server, project, address = sys.argv[1:]
        found = service(url, server, project, address, sys.stdin.readline().strip())
    found["made"] = network(found)
    found["versions"] = list(openstack.OS_VERSIONS)
    print(json.dumps(found, default=plain))


if __name__ == "__main__":
    main()
