"""
TLS from files: each that is missing, or not what it should be, is one line that names its setting.

Files are read when a process starts; a renewed certificate counts from the next start on.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from worker.errors import ConfigurationError

DATABASE_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's `sslmode`, weakest first. Source: PostgreSQL, "SSL Mode Descriptions"."""
_DATABASE_SETTING: Final = "REGISTRATION_DATABASE_URL"
_HOME: Final = Path("~/.postgresql")


class Pem(NamedTuple):
    """A file, and the setting that names it."""

    setting: str
    path: Path


def client_context(ca: Pem | None, cert: Pem | None, key: Pem | None) -> ssl.SSLContext:
    """
    Return how a client connects: the server's certificate is verified, its name too; from TLS 1.2 on.

    Args:
        ca: the only certificates that are trusted; None trusts the machine's.
        cert: our own certificate, with those that lead from it to its authority.
        key: its private key.
    Raises:
        ConfigurationError: a file can't be read, or is not what it should be.
    """
    context = ssl.create_default_context() if ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        _trust(context, ca)
    if cert is not None:
        _identify(context, cert, key)
    return context


def server_context(cert: Pem, key: Pem) -> ssl.SSLContext:
    """
    Return how a server answers, from TLS 1.2 on.

    Raises:
        ConfigurationError: a file can't be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _identify(context, cert, key)
    return context


def database_parameters(url: str) -> dict[str, str]:
    """
    Return what stands behind a database URL's question mark; the last of each.

    Raises:
        ValueError: it is not `name=value&…`; the message holds none of it.
    """
    _, _, query = url.partition("?")
    try:
        return dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True)) if query else {}
    except ValueError:
        raise ValueError("behind the question mark it must be `name=value&name=value`") from None


def database_mode(url: str) -> str:
    """Return the `sslmode` that holds: the URL's, the environment's, or libpq's default, which may do without TLS."""
    return database_parameters(url).get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"


def check_database(url: str) -> None:
    """
    See that the files which a database's URL names for TLS are there and good; the driver would find out much later.

    Raises:
        ConfigurationError: one is not; or the server's certificate shall be verified, and nothing says by what.
    """
    mode, given = database_mode(url), database_parameters(url)
    if mode not in DATABASE_MODES:
        raise ConfigurationError(f"PGSSLMODE: must be one of {', '.join(DATABASE_MODES)}")
    if mode == "disable":
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    root = database_root(url)
    if root is not None:
        _trust(context, Pem(f"{_DATABASE_SETTING}: sslrootcert", root))
    elif mode.startswith("verify"):
        raise ConfigurationError(f"{_DATABASE_SETTING}: sslmode={mode} needs sslrootcert, a file with the certificates to trust")
    if given.get("sslcrl") and mode not in DATABASE_MODES[:3]:
        _trust(context, Pem(f"{_DATABASE_SETTING}: sslcrl", Path(given["sslcrl"])), "list of revoked certificates")
    if given.get("sslcert"):
        key = Pem(f"{_DATABASE_SETTING}: sslkey", Path(given["sslkey"])) if given.get("sslkey") else None
        _identify(context, Pem(f"{_DATABASE_SETTING}: sslcert", Path(given["sslcert"])), key, given.get("sslpassword", ""))


def database_root(url: str) -> Path | None:
    """Return the file of certificates that a database's own is verified by; None where any is believed."""
    if database_mode(url) in DATABASE_MODES[:3]:
        return None
    named = database_parameters(url).get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    default = (_HOME / "root.crt").expanduser()
    return Path(named) if named else default if default.exists() else None


def _trust(context: ssl.SSLContext, file: Pem, what: str = "certificate") -> None:
    try:
        context.load_verify_locations(cafile=file.path)
    except ssl.SSLError:
        raise ConfigurationError(f"{file.setting}: {file.path} holds no {what} in PEM") from None
    except OSError as error:
        raise _unreadable(file, error) from None


def _identify(context: ssl.SSLContext, cert: Pem, key: Pem | None, password: str = "") -> None:
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert)
    of_key = key or cert
    try:
        of_key.path.read_bytes()
        context.load_cert_chain(cert.path, of_key.path, password=lambda: password)  # else OpenSSL asks the terminal
    except (ssl.SSLError, ValueError):
        told = f"no private key of {cert.path}, in PEM and {'opened by sslpassword' if password else 'without a password'}"
        raise ConfigurationError(f"{of_key.setting}: {of_key.path} holds {told}") from None
    except OSError as error:
        raise _unreadable(of_key, error) from None


def _unreadable(file: Pem, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{file.setting}: can't read {file.path}: {error.strerror}")
