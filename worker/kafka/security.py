"""How clients and brokers prove themselves to each other: one value that every client of aiokafka is made with."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from worker.config import PREFIX, Settings
from worker.tls import Pem, client_context

_SETTING: Final = f"{PREFIX}KAFKA_SECURITY_"
_NONE: Final = SecretStr("")


@dataclass(frozen=True, slots=True)
class Security:
    """
    What a connection to Kafka is protected by; by default nothing.

    Attributes:
        protocol: PLAINTEXT, SSL, SASL_SSL or SASL_PLAINTEXT.
        tls: whom we trust and who we are; None where the protocol has no TLS.
        mechanism: SCRAM-SHA-512 or SCRAM-SHA-256: the password itself is never sent.
    """

    protocol: str = "PLAINTEXT"
    tls: ssl.SSLContext | None = None
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr = _NONE

    def arguments(self) -> dict[str, Any]:
        """Return it as aiokafka's clients take it."""
        return {
            "security_protocol": self.protocol,
            "ssl_context": self.tls,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password.get_secret_value(),
        }


PLAINTEXT: Final = Security()


def security_of(settings: Settings) -> Security:
    """
    Return what these settings protect connections to Kafka by.

    Raises:
        ConfigurationError: a file can't be read, or is not what it should be.
    """
    protocol = settings.kafka_security_protocol
    tls = None
    if protocol in {"SSL", "SASL_SSL"}:
        ca, cert, key = settings.kafka_security_ca_file, settings.kafka_security_cert_file, settings.kafka_security_key_file
        tls = client_context(
            Pem(f"{_SETTING}CA_FILE", ca) if ca else None,
            Pem(f"{_SETTING}CERT_FILE", cert) if cert else None,
            Pem(f"{_SETTING}KEY_FILE", key) if key else None,
        )
    return Security(
        protocol=protocol,
        tls=tls,
        mechanism=settings.kafka_security_mechanism,
        username=settings.kafka_security_username,
        password=settings.kafka_security_password,
    )
