"""
Who calls: a bearer token, checked against keys that this process holds; no network is asked in a request.

Source: RFC 7519 (JWT), RFC 8725 (best practices), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from starlette.requests import Request

from worker.config import Settings
from worker.errors import ConfigurationError
from worker.ingress.keys import Keys
from worker.ingress.problems import ProblemError

LEEWAY_S: Final = 60
SUBJECT_MAX: Final = 255
TOKEN_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a valid token speaks for. `tenant` is the claim as it stands: an id or a slug."""

    subject: str
    tenant: str
    is_admin: bool


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
        self.keys = keys

    def caller(self, request: Request) -> Caller:
        """
        Return whom a request's token speaks for.

        Raises:
            ProblemError: `token-missing`, `token-invalid` or `not-admin`; `overloaded` where there are no keys to check by.
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
            kid = header.get("kid")
            if not isinstance(kid, str) or not kid or "crit" in header:
                raise ProblemError("token-invalid")
            key = self.keys.find(kid)
            if key is None:
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
