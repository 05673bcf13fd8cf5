"""Says at start which connections somebody on the way could read or answer in the server's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import unquote

from worker import logs
from worker.config import Settings
from worker.tls import DATABASE_MODES, database_mode, database_parameters, database_root


def warn(settings: Settings) -> None:
    """Log each connection to another machine that has no TLS, or whose server need not prove itself."""
    kafka = settings.kafka_bootstrap.split(",")
    if settings.kafka_security_protocol in {"PLAINTEXT", "SASL_PLAINTEXT"} and not all(map(_is_local, kafka)):
        logs.logger().warning("connection.unencrypted", service="kafka", setting="REGISTRATION_KAFKA_SECURITY_PROTOCOL")
    url = settings.database_url.get_secret_value()
    if all(map(_is_local, _database_hosts(url))):
        return
    if database_mode(url) in DATABASE_MODES[:3]:
        logs.logger().warning("connection.unencrypted", service="database", setting="sslmode in REGISTRATION_DATABASE_URL")
    elif database_root(url) is None:
        logs.logger().warning("connection.unverified", service="database", setting="sslrootcert in REGISTRATION_DATABASE_URL")


def _database_hosts(url: str) -> Iterator[str]:
    """Name the hosts of a URL as libpq finds them; none is this machine."""
    authority = url.partition("?")[0].split("/")[2].rpartition("@")[2]
    given = authority or database_parameters(url).get("host") or os.environ.get("PGHOST") or ""
    yield from (unquote(host) for host in given.split(","))


def _is_local(host: str) -> bool:
    """Whether `host`, `host:port` or `[address]:port` is this machine; a path is a socket's."""
    name = host.strip().removeprefix("[").partition("]")[0] if "[" in host else host.strip().partition(":")[0]
    if name in {"", "localhost"} or name.startswith("/"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
