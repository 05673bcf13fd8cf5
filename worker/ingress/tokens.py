"""
Who calls: a bearer token, checked against keys that this process holds; no network is asked in a request.

Source: RFC 7519 (JWT), RFC 8725 (best practices), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import jwt
from starlette.requests import Request

from worker.config import Settings
from worker.errors import ConfigurationError
from worker.ingress.problems import ProblemError

ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Asymmetric ones only: with a shared secret, whoever checks a token could make one."""
LEEWAY_S: Final = 60
SUBJECT_MAX: Final = 255
TOKEN_MAX: Final = 16_384
DEVELOPMENT: Final = "development"
"""A JWKS with this member, true, holds keys that `registration dev` made."""

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a valid token speaks for. `tenant` is the claim as it stands: an id or a slug."""

    subject: str
    tenant: str
    is_admin: bool


@dataclass(frozen=True, slots=True)
class _Key:
    key: Any
    algorithms: tuple[str, ...]


class Keys:
    """
    The public keys that tokens may be signed with, by `kid`.

    They are read from a file at start. A set that is fetched from an identity provider replaces `_keys` in the
    background; a request only ever looks here.
    """

    def __init__(self, keys: Mapping[str, _Key]) -> None:
        self._keys = dict(keys)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """
        Read the keys that the settings name.

        Raises:
            ConfigurationError: there is no usable key, a private key, or one that is for development only.
        """
        if settings.jwks_file is None:
            msg = "REGISTRATION_JWKS_FILE: must name the file with the public keys of access tokens"
            raise ConfigurationError(msg)
        return cls.from_document(_read(settings.jwks_file), development=settings.development)

    @classmethod
    def from_document(cls, document: object, *, development: bool) -> Self:
        """
        Read a JWKS.

        Args:
            document: parsed JSON; keys of a kind that is not accepted here are left out.
            development: whether keys made for development are accepted.
        Raises:
            ConfigurationError: as `from_settings`.
        """
        listed = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(listed, list):
            msg = "REGISTRATION_JWKS_FILE: is no JWKS (RFC 7517)"
            raise ConfigurationError(msg)
        entries = [entry for entry in listed if isinstance(entry, dict)]
        if not development and any(part.get(DEVELOPMENT) for part in (document, *entries)):
            msg = "REGISTRATION_JWKS_FILE: holds development keys, which only `registration dev` accepts"
            raise ConfigurationError(msg)
        if any(_PRIVATE_MEMBERS & entry.keys() for entry in entries):
            msg = "REGISTRATION_JWKS_FILE: holds a private or shared key; it must hold public keys only"
            raise ConfigurationError(msg)
        keys = {entry["kid"]: key for entry in entries if isinstance(entry.get("kid"), str) and (key := _usable(entry))}
        if not keys:
            msg = "REGISTRATION_JWKS_FILE: holds no signing key with a `kid`"
            raise ConfigurationError(msg)
        return cls(keys)

    def find(self, kid: str) -> _Key | None:
        """Return the key of that id; None where it is not known."""
        return self._keys.get(kid)


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        msg = f"REGISTRATION_JWKS_FILE: can't be read: {error.strerror}"
    except ValueError:
        msg = "REGISTRATION_JWKS_FILE: is not JSON"
    raise ConfigurationError(msg)


def _usable(entry: dict[str, Any]) -> _Key | None:
    if entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
        return None
    try:
        key = jwt.PyJWK(entry)
    except jwt.PyJWTError:
        return None
    fitting = _RSA if entry.get("kty") == "RSA" and "alg" not in entry else (key.algorithm_name,)
    algorithms = tuple(name for name in fitting if name in ALGORITHMS)
    return _Key(key.key, algorithms) if algorithms else None


class Tokens:
    """
    Checks access tokens.

    Raises:
        ConfigurationError: a setting is missing.
    """

    def __init__(self, settings: Settings, keys: Keys) -> None:
        for name in ("jwt_issuer", "jwt_audience", "jwt_role_claim", "jwt_admin_role", "jwt_tenant_claim"):
            if not getattr(settings, name):
                msg = f"REGISTRATION_{name.upper()}: must be set"
                raise ConfigurationError(msg)
        self._settings = settings
        self._keys = keys

    def caller(self, request: Request) -> Caller:
        """
        Return whom a request's token speaks for.

        Raises:
            ProblemError: `token-missing`, `token-invalid` or `not-admin`.
        """
        values = request.headers.getlist("authorization")
        scheme, _, token = (values[0] if values else "").strip().partition(" ")
        if not values or scheme.lower() != "bearer":
            raise ProblemError("token-missing")
        if len(values) > 1 or len(token) > TOKEN_MAX:
            raise ProblemError("token-invalid")
        caller = self._caller(self._claims(token.strip()))
        if not caller.is_admin:
            raise ProblemError("not-admin")
        return caller

    def _claims(self, token: str) -> dict[str, Any]:
        """Check the signature and the registered claims. Of the header only `alg`, `kid` and `crit` count."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(str(header.get("kid", "")))
            if key is None or "crit" in header:
                raise ProblemError("token-invalid")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError):
            raise ProblemError("token-invalid") from None
        return claims

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject, tenant = claims["sub"], claims.get(self._settings.jwt_tenant_claim)
        if not (0 < len(subject) <= SUBJECT_MAX and subject.isprintable()):
            raise ProblemError("token-invalid")
        roles = claims.get(self._settings.jwt_role_claim)
        named = roles.split() if isinstance(roles, str) else roles if isinstance(roles, list) else []
        return Caller(subject, tenant if isinstance(tenant, str) else "", self._settings.jwt_admin_role in named)
