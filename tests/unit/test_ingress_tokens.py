"""Access tokens: a table of those that are not valid, and what a set of keys must be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.requests import Request

from worker.config import Settings, load
from worker.dev import tokens as development
from worker.errors import ConfigurationError
from worker.ingress.problems import ProblemError
from worker.ingress.tokens import ALGORITHMS, Keys, Tokens

ISSUER = "https://identity.example.com/"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
JWKS: dict[str, Any] = {
    "keys": [
        {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "ec", "alg": "ES256", "use": "sig"},
        {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "rsa"},
        {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "for-encryption", "use": "enc"},
        {**OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True), "kid": "ed"},
    ]
}


def settings(**changed: object) -> Settings:
    """Return settings that name the issuer."""
    return load(**{"kafka_bootstrap": "x", "database_url": "postgresql://x", "jwt_issuer": ISSUER, **changed})


def checker() -> Tokens:
    """Return what checks tokens by the keys above."""
    return Tokens(settings(), Keys.from_document(JWKS, development=False))


def claims(**changed: object) -> dict[str, Any]:
    """Return a valid token's claims; `changed` replaces them, None takes one away."""
    now = int(time.time())
    valid = {
        "iss": ISSUER,
        "aud": "registration",
        "sub": "alice",
        "exp": now + 60,
        "roles": ["registration-admin"],
        "tenant": "development",
    }
    return {name: value for name, value in {**valid, **changed}.items() if value is not None}


def sign(
    content: dict[str, Any],
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey = EC_KEY,
    algorithm: str = "ES256",
    **header: object,
) -> str:
    """Sign a token with the elliptic curve's key, unless told otherwise."""
    return jwt.encode(content, key, algorithm=algorithm, headers={"kid": "ec", **header})


def request(*authorization: str) -> Request:
    """Return a request with these Authorization headers."""
    return Request({"type": "http", "headers": [(b"authorization", value.encode()) for value in authorization]})


def code_of(*authorization: str) -> str:
    """Return the code that a request with these headers ends with; empty where it is let through."""
    try:
        checker().caller(request(*authorization))
    except ProblemError as problem:
        return problem.code
    return ""


@pytest.mark.parametrize(
    "made",
    [
        lambda: sign(claims()),
        lambda: sign(claims(aud=["other", "registration"])),
        lambda: sign(claims(exp=int(time.time()) - 30)),
        lambda: sign(claims(roles="reader registration-admin")),
        lambda: sign(claims(), RSA_KEY, "RS256", kid="rsa"),
        lambda: sign(claims(), RSA_KEY, "PS512", kid="rsa"),
        lambda: sign(claims(), ED_KEY, "EdDSA", kid="ed"),
        lambda: sign(claims(), jku="https://evil.example.com/jwks.json"),
        lambda: sign(claims(), x5u="https://evil.example.com/x.pem", jwk={"kty": "oct", "k": "AA"}),
    ],
)
def test_a_valid_token_says_who_calls(made: Callable[[], str]) -> None:
    """A clock may be 60 seconds off, and where a header says to fetch keys counts for nothing."""
    caller = checker().caller(request(f"bearer {made()}"))

    assert (caller.subject, caller.tenant, caller.is_admin) == ("alice", "development", True)


@pytest.mark.parametrize("headers", [[], [""], ["Basic YWxpY2U6c2VjcmV0"], ["Token x"]], ids=["none", "empty", "basic", "other"])
def test_a_call_without_a_bearer_token_has_none(headers: list[str]) -> None:
    """Another scheme is no token."""
    assert code_of(*headers) == "token-missing"


def _confused() -> str:
    """Sign with HMAC, the public key as the secret: the classic confusion of algorithms."""

    def encoded(part: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")

    public = EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = encoded({"alg": "HS256", "kid": "ec"}) + b"." + encoded(claims())
    tag = hmac.new(public, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(tag).rstrip(b"=")).decode()


def _tampered() -> str:
    head, _, tail = sign(claims()).split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims(sub="mallory")).encode()).rstrip(b"=").decode()
    return f"{head}.{payload}.{tail}"


INVALID: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "not a token": lambda: "abc",
    "two dots": lambda: "..",
    "not ASCII": lambda: "é.é.é",
    "not base64": lambda: "%%.%%.%%",
    "too long": lambda: sign(claims(more="x" * 20_000)),
    "tampered": _tampered,
    "confused": _confused,
    "unsigned": lambda: jwt.encode(claims(), None, algorithm="none", headers={"kid": "ec"}),  # type: ignore[arg-type]
    "unknown kid": lambda: sign(claims(), kid="other"),
    "no kid": lambda: jwt.encode(claims(), EC_KEY, algorithm="ES256"),
    "kid of another key": lambda: sign(claims(), ec.generate_private_key(ec.SECP256R1())),
    "key for encryption": lambda: sign(claims(), RSA_KEY, "RS256", kid="for-encryption"),
    "critical extension": lambda: sign(claims(), crit=["exp"]),
    "expired": lambda: sign(claims(exp=int(time.time()) - 61)),
    "not yet valid": lambda: sign(claims(nbf=int(time.time()) + 90)),
    "no exp": lambda: sign(claims(exp=None)),
    "no iss": lambda: sign(claims(iss=None)),
    "no aud": lambda: sign(claims(aud=None)),
    "no sub": lambda: sign(claims(sub=None)),
    "other issuer": lambda: sign(claims(iss="https://evil.example.com/")),
    "other audience": lambda: sign(claims(aud="payments")),
    "exp is no number": lambda: sign(claims(exp="soon")),
    "empty sub": lambda: sign(claims(sub="")),
    "sub with a control character": lambda: sign(claims(sub="a\nb")),
    "long sub": lambda: sign(claims(sub="a" * 256)),
}


@pytest.mark.parametrize("make", INVALID.values(), ids=INVALID.keys())
def test_a_token_that_is_not_exactly_right_is_invalid(make: Callable[[], str]) -> None:
    """One code for all of them: a caller learns nothing about which check failed."""
    assert code_of(f"Bearer {make()}") == "token-invalid"


def test_two_tokens_are_none() -> None:
    """Which of them another hop believed is unknown."""
    assert code_of(f"Bearer {sign(claims())}", f"Bearer {sign(claims())}") == "token-invalid"


@pytest.mark.parametrize("roles", [None, [], ["reader"], "registration-administrator", {"registration-admin": 1}, 5])
def test_a_valid_token_without_the_role_is_forbidden(roles: object) -> None:
    """The role is a whole word, in a list or between spaces."""
    assert code_of(f"Bearer {sign(claims(roles=roles))}") == "not-admin"


def test_only_asymmetric_algorithms_are_known() -> None:
    """With a shared secret, whoever checks a token could make one."""
    assert not any(name.startswith("HS") or name == "none" for name in ALGORITHMS)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": {}},
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]},
        {"keys": [{**JWKS["keys"][0], "kid": None}]},
        {"keys": [{**ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "kid": "private"}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "broken"}]},
        {**JWKS, "development": True},
        {"keys": [{**JWKS["keys"][0], "development": True}]},
    ],
    ids=repr,
)
def test_an_ingress_does_not_start_with_keys_that_it_must_not_trust(document: object) -> None:
    """Private, shared, broken and development keys are refused, in one line that names the setting."""
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_FILE: [^\n]+$"):
        Keys.from_document(document, development=False)


def test_settings_without_an_issuer_or_keys_do_not_start(tmp_path: Path) -> None:
    """What makes a token trusted is never guessed."""
    keys = Keys.from_document(JWKS, development=False)
    unreadable = tmp_path / "none.json"
    no_json = tmp_path / "jwks.json"
    no_json.write_text("{")

    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWT_ISSUER: "):
        Tokens(settings(jwt_issuer=""), keys)
    for path in (None, unreadable, no_json):
        with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_FILE: "):
            Keys.from_settings(settings(jwks_file=path))


def test_development_keys_are_private_and_good_for_development_only(tmp_path: Path) -> None:
    """The tokens that they sign are checked as any other; without the development setting nothing starts."""
    file = development.make_keys(tmp_path)
    token = development.make_token(tmp_path, development.ADMIN_ROLE, "development", 60)
    own = settings(jwks_file=file, jwt_issuer=development.ISSUER, development=True)

    caller = Tokens(own, Keys.from_settings(own)).caller(request(f"Bearer {token}"))

    assert (caller.tenant, caller.is_admin) == ("development", True)
    assert stat.S_IMODE((tmp_path / development.PRIVATE_KEY).stat().st_mode) == 0o600
    assert development.make_keys(tmp_path).read_bytes() == file.read_bytes()
    with pytest.raises(ConfigurationError):
        Keys.from_settings(settings(jwks_file=file))
