"""Key pairs of users: generating, reading and fingerprinting them."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kilonova.base.errors import BadRequest

# Where Windows looks for the user a client certificate stands for.
_PRINCIPAL = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_YEARS = 10


class Generated(msgspec.Struct, frozen=True):
    """A new pair; the private half is never kept."""

    public_key: str
    private_key: str
    fingerprint: str


def generate_ssh() -> Generated:
    """An Ed25519 pair in OpenSSH form."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
    public = (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
    return Generated(f"{public} Generated-by-Nova", private, ssh_fingerprint(public))


def ssh_fingerprint(public_key: str) -> str:
    """MD5 of the key as colon-separated hex (RFC 4716); BadRequest for what is no key."""
    words = public_key.split()
    try:
        if len(words) < 2:
            raise ValueError("a key is a type and base64 data")
        blob = base64.b64decode(words[1], validate=True)
        serialization.load_ssh_public_key(" ".join(words[:2]).encode())
    except (ValueError, binascii.Error, UnicodeError) as error:
        raise BadRequest(
            f"Keypair data is invalid: failed to generate fingerprint: {error}"
        ) from None
    except Exception as error:
        # Kinds of keys the library does not read (security keys) are still well-formed blobs.
        if not blob[4:].startswith(words[0].encode()):
            raise BadRequest(f"Keypair data is invalid: {type(error).__name__}") from None
    return _pairs(hashlib.md5(blob, usedforsecurity=False).hexdigest())


def generate_x509(user_id: str, project_id: str, now: dt.datetime) -> Generated:
    """A self-signed client certificate for WinRM, and its RSA key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{project_id}-{user_id}"[:64])])
    principal = f"{user_id}@localhost".encode()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=365 * _YEARS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.OtherName(_PRINCIPAL, _utf8(principal))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Generated(public, private, _pairs(certificate.fingerprint(hashes.SHA1()).hex()))


def _utf8(text: bytes) -> bytes:
    """The text as a DER UTF8String."""
    length = len(text)
    head = bytes([length]) if length < 128 else bytes([0x82, length >> 8, length & 0xFF])
    return b"\x0c" + head + text


def x509_fingerprint(certificate: str) -> str:
    """SHA-1 of a PEM certificate as colon-separated hex; BadRequest for what is none."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode("ascii"))
        return _pairs(parsed.fingerprint(hashes.SHA1()).hex())
    except (ValueError, UnicodeError) as error:
        raise BadRequest(f"Keypair data is invalid: {error}") from None


def _pairs(digits: str) -> str:
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def encrypt(public_key: str, text: bytes) -> bytes | None:
    """The text so that only the owner of an RSA key in OpenSSH form can read it (PKCS #1 v1.5).

    None for other keys, and for a text that is too long for the key.
    """
    if not public_key.startswith("ssh-rsa "):
        return None
    try:
        key = serialization.load_ssh_public_key(public_key.encode())
        return key.encrypt(text, padding.PKCS1v15()) if isinstance(key, rsa.RSAPublicKey) else None
    except (ValueError, UnsupportedAlgorithm):
        return None
