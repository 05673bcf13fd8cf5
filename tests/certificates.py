"""Certificates for tests: an authority, a server on this machine and a client of it, and an authority that knows neither."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Certificates:
    """
    PEM files in one folder.

    Attributes:
        encrypted_key: the client's key, behind the password `open`.
        both: the server's key and certificate in one file, as Java reads them.
        other_ca: an authority that signed none of these.
    """

    ca: Path
    server_cert: Path
    server_key: Path
    both: Path
    client_cert: Path
    client_key: Path
    encrypted_key: Path
    other_ca: Path


def make(folder: Path) -> Certificates:
    """Make all of them in a folder that is there."""
    files = Certificates(*(folder / f"{name.replace('_', '-')}.pem" for name in Certificates.__slots__))
    authority, other = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    ca = _certificate("ca", authority, "ca", authority)
    _write(files.ca, ca)
    _write(files.other_ca, _certificate("other", other, "other", other))
    for name, cert, key in (("server", files.server_cert, files.server_key), ("client", files.client_cert, files.client_key)):
        own = generate_private_key(SECP256R1())
        _write(cert, _certificate(name, own, "ca", authority))
        key.write_bytes(_key(own))
        if name == "client":
            files.encrypted_key.write_bytes(_key(own, BestAvailableEncryption(b"open")))
    files.both.write_bytes(files.server_key.read_bytes() + files.server_cert.read_bytes())
    return files


def _certificate(name: str, own: EllipticCurvePrivateKey, issuer: str, signed_by: EllipticCurvePrivateKey) -> x509.Certificate:
    now, is_authority = datetime.now(UTC), own is signed_by
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False
    )
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=is_authority, crl_sign=is_authority, **usage), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(ADDRESS))]), critical=False)
        .sign(signed_by, SHA256())
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key(key: EllipticCurvePrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def _write(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
