"""Real sockets: several applications in one loop, bounds, TLS, a graceful end."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kilonova.web.client import HttpClient
from kilonova.web.health import standalone
from kilonova.web.serve import Listener, ServeError, Servers, Tls, new_event_loop


class Slow:
    """Answers after ``seconds``; remembers whether it was cancelled."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.busy = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.busy.set()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def test_two_services_and_a_graceful_end() -> None:
    slow = Slow(0.3)
    listeners = [Listener("slow", slow), Listener("health", standalone({}))]
    async with HttpClient() as client:
        async with Servers(listeners, grace=5) as servers:
            assert (
                await client.request("GET", servers.urls["health"] + "/healthcheck")
            ).text == "OK"
            pending = asyncio.create_task(client.request("GET", servers.urls["slow"]))
            await slow.busy.wait()
            url = servers.urls["health"]
        assert (await pending).text == "done"
        with pytest.raises(Exception, match="not reachable"):
            await client.request("GET", url)


async def test_requests_beyond_the_grace_are_cancelled() -> None:
    slow = Slow(30)
    async with HttpClient() as client:
        async with Servers([Listener("slow", slow)], grace=1) as servers:
            pending = asyncio.create_task(client.request("GET", servers.urls["slow"]))
            await slow.busy.wait()
        assert (await pending).status == 500
    assert slow.cancelled


async def test_a_busy_port_is_one_clear_sentence() -> None:
    health = standalone({})
    async with Servers([Listener("a", health)]) as servers:
        port = int(servers.urls["a"].rpartition(":")[2])
        with pytest.raises(ServeError, match=rf"Port {port} on 127.0.0.1 \(b\) is already in use"):
            async with Servers([Listener("c", health), Listener("b", health, port=port)]):
                pass
    with pytest.raises(ServeError, match="not an address of this machine"):
        async with Servers([Listener("a", health, host="192.0.2.1")]):
            pass


async def test_oversized_heads_are_refused() -> None:
    async with Servers([Listener("a", standalone({}))]) as servers:
        host, _, port = servers.urls["a"].removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nX-A: ")
        for _ in range(40):
            writer.write(b"a" * 10_000)
        try:
            await writer.drain()
            answer = await reader.read(200)
            assert answer.startswith(b"HTTP/1.1 400")
        except ConnectionError:
            pass
        writer.close()


def _certificate(folder: Path) -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Tls(folder / "cert.pem", folder / "key.pem")


async def test_tls(tmp_path: Path) -> None:
    tls = _certificate(tmp_path)
    listener = Listener("a", standalone({}), host="localhost", tls=tls)
    async with Servers([listener]) as servers, HttpClient(verify=str(tls.cert)) as client:
        assert servers.urls["a"].startswith("https://localhost:")
        assert (await client.request("GET", servers.urls["a"] + "/healthcheck")).status == 200
    broken = Listener("a", standalone({}), tls=Tls(tmp_path / "none", tls.key))
    with pytest.raises(ServeError, match="certificate"):
        async with Servers([broken]):
            pass


@pytest.mark.parametrize("kind", ["asyncio", "auto"])
def test_event_loops(kind: str) -> None:
    async def main() -> str:
        async with Servers([Listener("a", standalone({}))]) as servers, HttpClient() as client:
            return (await client.request("GET", servers.urls["a"] + "/healthcheck")).text

    with asyncio.Runner(loop_factory=lambda: new_event_loop(kind)) as runner:
        assert runner.run(main()) == "OK"
    with pytest.raises(ValueError, match="must be"):
        new_event_loop("other")
