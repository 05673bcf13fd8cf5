"""
Every setting, in one place: environment variables named `REGISTRATION_…`, units last in the name.

The README's table is generated from this class, and each process prints its settings at start with secrets masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import ConfigurationError
from worker.tls import DATABASE_MODES, database_mode, database_parameters

PREFIX: Final = "REGISTRATION_"
_HOST: Final = r"([^:/?#@,\[\]]*|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"
_DATABASE: Final = re.compile(
    rf"(?P<scheme>postgres(ql)?)://((?P<user>[^:/?#@]*)(:[^/?#]*)?@)?(?P<hosts>{_HOST}(,{_HOST})*)(?P<path>/[^?#@]*)?(\?[^#]*)?"
)
"""PostgreSQL's URLs (libpq, "Connection URIs"); several hosts are separated by commas."""

_JWKS: Final = re.compile(
    r"(?P<scheme>https?)://([^/?#@\s]*@)?(?P<host>[^:/?#@\[\]\s]+|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?(?P<path>/[^?#\s]*)?(\?[^#\s]*)?"
)
_PORT_MAX: Final = 65_535
SECRETS: Final = Path("/run/secrets")
"""Where containers find secrets as files (Docker, "Manage sensitive data"; podman and Kubernetes likewise)."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Settings(BaseSettings):
    """What a process is told by its environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False)

    kafka_bootstrap: str = Field(description="Kafka's bootstrap servers, `host:port,host:port`.")
    database_url: SecretStr = Field(
        description="PostgreSQL, `postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=ca.pem`."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL", "SASL_PLAINTEXT"] = Field(
        "PLAINTEXT", description="How Kafka is reached: `SSL` encrypts, `SASL_SSL` logs in too; `SASL_PLAINTEXT` only logs in."
    )
    kafka_security_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256"] = Field(
        "SCRAM-SHA-512", description="How it logs in with `SASL_…`: `SCRAM-SHA-512` or `SCRAM-SHA-256`."
    )
    kafka_security_username: str = Field("", description="Whom Kafka knows it as; needed with `SASL_…`.")
    kafka_security_password: SecretStr = Field(SecretStr(""), description="That user's password.")
    kafka_security_ca_file: Path | None = Field(
        None, description="File (PEM) with the certificates that Kafka's is verified by; empty: those of the machine."
    )
    kafka_security_cert_file: Path | None = Field(None, description="File (PEM) with a client certificate, where Kafka wants one.")
    kafka_security_key_file: Path | None = Field(None, description="File (PEM) with its private key, not encrypted.")
    group: str = Field("registration-worker", description="The workers' consumer group.")
    sealing_keys: SecretStr = Field(
        SecretStr(""),
        description="AES-256-GCM keys that seal dead letters at rest, `id:base64,id:base64`; the first one seals, all open.",
    )
    publish_key: SecretStr = Field(
        SecretStr(""), description="An upstream service's own secret, 16 to 64 bytes: what `registration publish` derives ids from."
    )
    processes: int = Field(1, ge=1, le=64, description="Worker processes that `registration worker` starts.")
    batch_max_records: int = Field(500, ge=1, le=5000, description="Most commands in one transaction.")
    batch_goal_s: float = Field(0.5, gt=0, description="How long a batch should take: it is as large as that allows.")
    batch_timeout_s: float = Field(10, gt=0, description="Longest that one transaction may take.")
    database_connections: int = Field(4, ge=1, le=100, description="Most connections to PostgreSQL of one process.")
    produce_timeout_s: float = Field(10, gt=0, description="Longest wait for Kafka to acknowledge what was sent.")
    session_timeout_s: float = Field(10, gt=0, description="Kafka counts a worker as dead when it is silent this long.")
    heartbeat_interval_s: float = Field(3, gt=0, description="How often a worker tells Kafka that it lives.")
    rebalance_timeout_s: float = Field(30, gt=0, description="Longest that a rebalance waits for this worker.")
    look_interval_s: float = Field(1, gt=0, description="How often an idle lane looks whether its partition is still its own.")
    stall_s: float = Field(
        120,
        gt=0,
        description="A partition that stands still so long, with commands to do and no wait to explain it, ends `/livez`.",
    )
    drain_timeout_s: float = Field(15, gt=0, description="Longest that SIGTERM waits for work in flight.")
    breaker_run: int = Field(100, ge=1, description="Dead letters in a row on a partition that stop it.")
    breaker_pause_s: float = Field(
        30, gt=0, description="First pause of a stopped partition; it doubles up to breaker_pause_max_s."
    )
    breaker_pause_max_s: float = Field(300, gt=0, description="Longest pause between two tries of a stopped partition.")
    metadata_max_age_s: float = Field(60, gt=0, description="How often Kafka's metadata is read anew.")
    topic_partitions: int = Field(6, ge=1, description="Partitions of a topic that `migrate` makes.")
    topic_replicas: int = Field(
        1, ge=0, description="Replicas of a topic that `migrate` makes; 3 in production. 0: what the brokers have as default."
    )
    http_host: str = Field("127.0.0.1", description="Address that the ingress listens on.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port that the ingress listens on; 0 picks one.")
    http_tls_cert_file: Path | None = Field(
        None, description="File (PEM) with the ingress's certificate and those above it; empty: it speaks plain HTTP."
    )
    http_tls_key_file: Path | None = Field(None, description="File (PEM) with its private key, not encrypted.")
    admin_host: str = Field("127.0.0.1", description="Address of the health and metrics port.")
    admin_port: int = Field(9100, ge=0, le=65535, description="Health and metrics port; 0 picks one.")
    public_url: str = Field("", description="How callers reach the ingress, `https://…`; empty: links are paths.")
    ingress_wait_s: float = Field(10, ge=0, le=60, description="How long a POST waits for its outcome.")
    body_max_bytes: int = Field(65_536, ge=1024, description="Largest request body.")
    body_timeout_s: float = Field(10, gt=0, description="Longest that a request's body may take to arrive.")
    headers_max_bytes: int = Field(32_768, ge=1024, description="Most that a request's path and headers may have together.")
    header_max_bytes: int = Field(16_384, ge=512, description="Most that one header, or the path, may have.")
    headers_timeout_s: float = Field(10, gt=0, description="Longest that a request's headers may take to arrive.")
    idle_timeout_s: float = Field(65, gt=0, description="How long a connection is kept after an answer.")
    answer_timeout_s: float = Field(10, gt=0, description="Longest that a caller may leave an answer unread.")
    connections_max: int = Field(
        4096, ge=2, description="Most connections of one process; a new one then ends the one that is idle for longest."
    )
    rate_requests: int = Field(
        2000, ge=1, description="Requests of one tenant and subject, to one process, in `rate_window_s`; beyond, 429."
    )
    rate_window_s: int = Field(10, ge=1, description="In which so many requests may come, all at once or spread.")
    hash_threads: int = Field(2, ge=1, le=64, description="Threads that hash passwords.")
    hash_queue_max: int = Field(64, ge=1, description="Most passwords that wait for a thread; beyond, 503 `overloaded`.")
    jwks_file: Path | None = Field(None, description="File with the public keys that sign access tokens (JWKS).")
    jwks_url: SecretStr = Field(
        SecretStr(""),
        description="Instead of a file: where the identity provider publishes these keys, `https://…`.",
    )
    jwks_ca_file: Path | None = Field(
        None, description="File (PEM) with the certificates that the provider's is verified by; empty: those of the machine."
    )
    jwks_refresh_s: float = Field(300, ge=30, le=43_200, description="How often the provider is asked for its keys.")
    jwt_issuer: str = Field("", description="The `iss` that a token must have.")
    jwt_audience: str = Field("registration", description="The `aud` that a token must have.")
    jwt_role_claim: str = Field("roles", description="Claim that holds the caller's roles.")
    jwt_admin_role: str = Field("registration-admin", description="Role that may register customers.")
    jwt_tenant_claim: str = Field("tenant", description="Claim that names the caller's tenant, by id or slug.")
    development: bool = Field(
        default=False, description="Set by `registration dev` and the dev cluster alone: development keys are accepted."
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level that is logged.")
    log_format: str = Field("json", pattern="^(json|console)$", description="`json` for machines, `console` for people.")

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr) -> SecretStr:
        if _DATABASE.fullmatch(url.get_secret_value()) is None:
            msg = "must be `postgresql://user:password@host:port/database`; in a password, `/` is `%2F` and so on"
            raise ValueError(msg)
        if database_parameters(url.get_secret_value()).get("sslmode", "disable") not in DATABASE_MODES:
            msg = f"sslmode must be one of {', '.join(DATABASE_MODES)}"
            raise ValueError(msg)
        return url

    @field_validator("jwks_url")
    @classmethod
    def _https(cls, url: SecretStr) -> SecretStr:
        found = _JWKS.fullmatch(url.get_secret_value())
        if url.get_secret_value() and (found is None or int((found["port"] or ":0")[1:]) > _PORT_MAX):
            msg = "must be `https://host/path`"
            raise ValueError(msg)
        return url

    @model_validator(mode="after")
    def _transport(self) -> Self:
        faults = [*self._kafka_faults(), *self._jwks_faults(), *_halves(self, "kafka_security"), *_halves(self, "http_tls")]
        if faults:
            raise PydanticCustomError("transport", "{faults}", {"faults": "; ".join(faults)})
        return self

    def _kafka_faults(self) -> Iterator[str]:
        """Say what the protocol lacks, and what it would silently leave unused."""
        protocol, name = self.kafka_security_protocol, f"{PREFIX}KAFKA_SECURITY"
        for part, value in (("USERNAME", self.kafka_security_username), ("PASSWORD", self.kafka_security_password)):
            if protocol.startswith("SASL") and not value:
                yield f"{name}_{part}: is needed where {name}_PROTOCOL is {protocol}"
            elif value and not protocol.startswith("SASL"):
                yield f"{name}_{part}: is used only where {name}_PROTOCOL is SASL_SSL or SASL_PLAINTEXT"
        for part in ("CA_FILE", "CERT_FILE", "KEY_FILE"):
            if getattr(self, f"kafka_security_{part.lower()}") and protocol not in {"SSL", "SASL_SSL"}:
                yield f"{name}_{part}: is used only where {name}_PROTOCOL is SSL or SASL_SSL"

    def _jwks_faults(self) -> Iterator[str]:
        """Say which place of keys is one too many, and which is not safe."""
        url, name = self.jwks_url.get_secret_value(), f"{PREFIX}JWKS_URL"
        found = _JWKS.fullmatch(url)
        if url and self.jwks_file is not None:
            yield f"{name}: is one too many beside {PREFIX}JWKS_FILE"
        if self.jwks_ca_file is not None and not url:
            yield f"{PREFIX}JWKS_CA_FILE: is used only where {name} is set"
        if found and found["scheme"] == "http" and not (self.development and found["host"] in _LOOPBACK):
            yield f"{name}: must be `https://host/path`"

    def printable(self) -> dict[str, Any]:
        """Return every setting as it may be logged: secrets masked, the database's URL without its password."""
        shown = self.model_dump(mode="json")
        shown["database_url"] = _without_password(self.database_url.get_secret_value())
        found = _JWKS.fullmatch(self.jwks_url.get_secret_value())
        shown["jwks_url"] = (
            "" if found is None else f"{found['scheme']}://{found['host']}{found['port'] or ''}{found['path'] or ''}"
        )
        return shown


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - passed on to pydantic, which checks each
    """
    Read the settings of this process: each from its variable, or from a file of that name in `/run/secrets`.

    Raises:
        ConfigurationError: a variable is missing or wrong; the message names it.
    """
    try:
        return Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None, **overrides)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    faults = (
        f"{PREFIX}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" if fault["loc"] else fault["msg"]
        for fault in error.errors(include_input=False)
    )
    return "; ".join(faults)


def _halves(settings: Settings, name: str) -> Iterator[str]:
    """Say which is missing of a certificate and its key."""
    for missing, there in (("key_file", "cert_file"), ("cert_file", "key_file")):
        if getattr(settings, f"{name}_{there}") and not getattr(settings, f"{name}_{missing}"):
            yield f"{PREFIX}{name.upper()}_{missing.upper()}: is needed beside {PREFIX}{name.upper()}_{there.upper()}"


def _without_password(url: str) -> str:
    """Return a database's URL without what may be secret: the password, and all but `sslmode` behind a question mark."""
    found = _DATABASE.fullmatch(url)
    if found is None:
        return "***"
    user = "" if found["user"] is None else f"{found['user']}:***@"
    mode = f"?sslmode={database_mode(url)}" if "sslmode" in database_parameters(url) else ""
    return f"{found['scheme']}://{user}{found['hosts']}{found['path'] or ''}{mode}"
