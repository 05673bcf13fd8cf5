"""
Every setting, in one place: environment variables named `REGISTRATION_…`, units last in the name.

The README's table is generated from this class, and each process prints its settings at start with secrets masked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import ConfigurationError

PREFIX: Final = "REGISTRATION_"
_HOST: Final = r"([^:/?#@,\[\]]*|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"
_DATABASE: Final = re.compile(
    rf"(?P<scheme>postgres(ql)?)://((?P<user>[^:/?#@]*)(:[^/?#]*)?@)?(?P<hosts>{_HOST}(,{_HOST})*)(?P<path>/[^?#@]*)?(\?[^#]*)?"
)
"""PostgreSQL's URLs (libpq, "Connection URIs"); several hosts are separated by commas."""


class Settings(BaseSettings):
    """What a process is told by its environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False)

    kafka_bootstrap: str = Field(description="Kafka's bootstrap servers, `host:port,host:port`.")
    database_url: SecretStr = Field(description="PostgreSQL, `postgresql://user:password@host:port/database`.")
    group: str = Field("registration-worker", description="The workers' consumer group.")
    sealing_keys: SecretStr = Field(
        SecretStr(""),
        description="AES-256-GCM keys that seal dead letters at rest, `id:base64,id:base64`; the first one seals, all open.",
    )
    processes: int = Field(1, ge=1, le=64, description="Worker processes that `registration worker` starts.")
    batch_max_records: int = Field(500, ge=1, le=5000, description="Most commands in one transaction.")
    batch_timeout_s: float = Field(10, gt=0, description="Longest that one transaction may take.")
    database_connections: int = Field(4, ge=1, le=100, description="Most connections to PostgreSQL of one process.")
    produce_timeout_s: float = Field(10, gt=0, description="Longest wait for Kafka to acknowledge what was sent.")
    session_timeout_s: float = Field(10, gt=0, description="Kafka counts a worker as dead when it is silent this long.")
    heartbeat_interval_s: float = Field(3, gt=0, description="How often a worker tells Kafka that it lives.")
    rebalance_timeout_s: float = Field(30, gt=0, description="Longest that a rebalance waits for this worker.")
    look_interval_s: float = Field(1, gt=0, description="How often an idle lane looks whether its partition is still its own.")
    drain_timeout_s: float = Field(15, gt=0, description="Longest that SIGTERM waits for work in flight.")
    breaker_run: int = Field(100, ge=1, description="Dead letters in a row on a partition that stop it.")
    breaker_pause_s: float = Field(
        30, gt=0, description="First pause of a stopped partition; it doubles up to breaker_pause_max_s."
    )
    breaker_pause_max_s: float = Field(300, gt=0, description="Longest pause between two tries of a stopped partition.")
    metadata_max_age_s: float = Field(60, gt=0, description="How often Kafka's metadata is read anew.")
    topic_partitions: int = Field(6, ge=1, description="Partitions of a topic that `migrate` makes.")
    topic_replicas: int = Field(1, ge=1, description="Replicas of a topic that `migrate` makes; 3 in production.")
    http_host: str = Field("127.0.0.1", description="Address that the ingress listens on.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port that the ingress listens on; 0 picks one.")
    admin_host: str = Field("127.0.0.1", description="Address of the health and metrics port.")
    admin_port: int = Field(9100, ge=0, le=65535, description="Health and metrics port; 0 picks one.")
    public_url: str = Field("", description="How callers reach the ingress, `https://…`; empty: links are paths.")
    ingress_wait_s: float = Field(10, ge=0, le=60, description="How long a POST waits for its outcome.")
    body_max_bytes: int = Field(65_536, ge=1024, description="Largest request body.")
    hash_threads: int = Field(2, ge=1, le=64, description="Threads that hash passwords.")
    hash_queue_max: int = Field(64, ge=1, description="Most passwords that wait for a thread; beyond, 503 `overloaded`.")
    jwks_file: Path | None = Field(None, description="File with the public keys that sign access tokens (JWKS).")
    jwt_issuer: str = Field("", description="The `iss` that a token must have.")
    jwt_audience: str = Field("registration", description="The `aud` that a token must have.")
    jwt_role_claim: str = Field("roles", description="Claim that holds the caller's roles.")
    jwt_admin_role: str = Field("registration-admin", description="Role that may register customers.")
    jwt_tenant_claim: str = Field("tenant", description="Claim that names the caller's tenant, by id or slug.")
    development: bool = Field(default=False, description="Set by `registration dev` alone: development keys are accepted.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level that is logged.")
    log_format: str = Field("json", pattern="^(json|console)$", description="`json` for machines, `console` for people.")

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: SecretStr) -> SecretStr:
        if _DATABASE.fullmatch(url.get_secret_value()) is None:
            msg = "must be `postgresql://user:password@host:port/database`; in a password, `/` is `%2F` and so on"
            raise ValueError(msg)
        return url

    def printable(self) -> dict[str, Any]:
        """Return every setting as it may be logged: secrets masked, the database's URL without its password."""
        shown = self.model_dump(mode="json")
        shown["database_url"] = _without_password(self.database_url.get_secret_value())
        return shown


def load(**overrides: Any) -> Settings:  # noqa: ANN401 - passed on to pydantic, which checks each
    """
    Read the settings of this process.

    Raises:
        ConfigurationError: a variable is missing or wrong; the message names it.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error)) from None


def _one_line(error: ValidationError) -> str:
    faults = (f"{PREFIX}{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors(include_input=False))
    return "; ".join(faults)


def _without_password(url: str) -> str:
    """Return a database's URL without what may be secret: the password, and all that stands behind a question mark."""
    found = _DATABASE.fullmatch(url)
    if found is None:
        return "***"
    user = "" if found["user"] is None else f"{found['user']}:***@"
    return f"{found['scheme']}://{user}{found['hosts']}{found['path'] or ''}"
