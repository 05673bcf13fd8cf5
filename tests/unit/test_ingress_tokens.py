"""Access tokens: a table of those that are not valid, and what a set of keys must be."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.requests import Request

from worker.config import Settings, load
from worker.dev import tokens as development
from worker.errors import ConfigurationError
from worker.ingress.jwks import ALGORITHMS, KEYS_MAX, SIZE_MAX_BYTES, Jwks, JwksError, JwksUrl, Reason, keys_of, parse
from worker.ingress.keys import AGE_MAX_S, RETRY_INTERVAL_S, WANTED_INTERVAL_S, Keys
from worker.ingress.problems import ProblemError
from worker.ingress.tokens import Tokens
from worker.metrics import Metrics

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


class Scripted:
    """A source of keys that does as it is told: what it holds is read, or raised."""

    interval_s = 300.0

    def __init__(self, *, holds: Jwks | Reason) -> None:
        self.holds = holds
        self.reads = 0

    async def read(self) -> Jwks:
        """Do it."""
        self.reads += 1
        if isinstance(self.holds, str):
            raise JwksError(self.holds, "is out of order")
        return self.holds


def keys() -> Keys:
    """Return the keys above, read already."""
    found = keys_of(JWKS, development=False)
    return Keys(Scripted(holds=found), Metrics(), first=found)


def checker() -> Tokens:
    """Return what checks tokens by the keys above."""
    return Tokens(settings(), keys())


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


EC_JWK: dict[str, Any] = JWKS["keys"][0]
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 - this is what is refused
REFUSED: list[tuple[object, Reason]] = [
    (None, "malformed"),
    ([], "malformed"),
    ({}, "malformed"),
    ({"keys": {}}, "malformed"),
    ({"keys": []}, "no-key"),
    ({"keys": [None, "x", 5, {}]}, "no-key"),
    ({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}]}, "private"),
    ({"keys": [{**EC_JWK, "kid": None}]}, "no-key"),
    ({"keys": [{**EC_JWK, "kid": ""}]}, "no-key"),
    ({"keys": [*JWKS["keys"], {**ECAlgorithm.to_jwk(EC_KEY, as_dict=True), "kid": "private"}]}, "private"),
    ({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "broken"}]}, "no-key"),
    ({"keys": [{"kty": "RSA", "kid": "without members"}]}, "no-key"),
    ({"keys": [{**EC_JWK, "x": 5}]}, "no-key"),
    ({"keys": [{**EC_JWK, "alg": "none"}]}, "no-key"),
    ({"keys": [{**EC_JWK, "alg": ["ES256"]}]}, "no-key"),
    ({"keys": [{**EC_JWK, "alg": "RS256"}]}, "no-key"),
    ({"keys": [{**RSAAlgorithm.to_jwk(SHORT.public_key(), as_dict=True), "kid": "short"}]}, "no-key"),
    ({"keys": [*JWKS["keys"], {**JWKS["keys"][1], "kid": "ec"}]}, "ambiguous"),
    ({"keys": [EC_JWK] * (KEYS_MAX + 1)}, "too-large"),
    ({**JWKS, "development": True}, "development"),
    ({"keys": [*JWKS["keys"], {**EC_JWK, "development": True}]}, "development"),
]


@pytest.mark.parametrize(("document", "reason"), REFUSED, ids=lambda value: None if isinstance(value, str) else "document")
def test_keys_that_must_not_be_trusted_are_refused_whole(document: object, reason: Reason, tmp_path: Path) -> None:
    """Private, shared, broken, ambiguous and development keys; from a file, an ingress does not start, and one line says why."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(document))
    with pytest.raises(JwksError) as raised:
        keys_of(document, development=False)
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_FILE: [^\n]+$"):
        Keys.from_settings(settings(jwks_file=file), Metrics())

    assert raised.value.reason == reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b"[" * SIZE_MAX_BYTES, "malformed"),
        (b"9" * SIZE_MAX_BYTES, "malformed"),
        (b'{"keys": []}' + b" " * SIZE_MAX_BYTES, "too-large"),
    ],
)
def test_bytes_that_are_no_set_of_keys_are_refused(content: bytes, reason: Reason) -> None:
    """However they are made."""
    with pytest.raises(JwksError) as raised:
        parse(content, development=False)

    assert raised.value.reason == reason


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3))
MEMBERS = ("kty", "kid", "use", "alg", "crv", "x", "y", "n", "e", "key_ops", "development")
WORDS = st.sampled_from(["EC", "RSA", "OKP", "oct", "AKP", "sig", "enc", "P-256", "P-384", "Ed25519", "Ed448", "AQAB", *ALGORITHMS])


@given(st.lists(st.dictionaries(st.sampled_from(MEMBERS), WORDS | JSON) | st.just(EC_JWK) | JSON, max_size=4))
def test_whatever_a_set_holds_it_is_read_or_refused(entries: list[Any]) -> None:
    """Nothing else comes of it, so nothing that a provider says ends what keeps the keys fresh."""
    try:
        found = keys_of({"keys": entries}, development=False)
    except JwksError:
        return

    assert found
    assert all(key.algorithms and set(key.algorithms) <= ALGORITHMS for key in found.values())


def test_one_key_may_be_listed_for_each_of_its_algorithms() -> None:
    """Some providers do that; the same key twice is no second meaning."""
    rsa_jwk = {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "rsa"}
    found = keys_of({"keys": [{**rsa_jwk, "alg": "RS256"}, {**rsa_jwk, "alg": "PS256"}]}, development=False)

    assert found["rsa"].algorithms == ("RS256", "PS256")


def test_settings_without_an_issuer_or_keys_do_not_start(tmp_path: Path) -> None:
    """What makes a token trusted is never guessed."""
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWT_ISSUER: "):
        Tokens(settings(jwt_issuer=""), keys())
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_URL: .*REGISTRATION_JWKS_FILE"):
        Keys.from_settings(settings(), Metrics())
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_FILE: can't be read: No such file"):
        Keys.from_settings(settings(jwks_file=tmp_path / "none.json"), Metrics())
    with pytest.raises(ConfigurationError, match=r"^REGISTRATION_JWKS_CA_FILE: "):
        JwksUrl(settings(jwks_url="https://identity.example.com/keys", jwks_ca_file=tmp_path / "none.pem"))


def test_development_keys_are_private_and_good_for_development_only(tmp_path: Path) -> None:
    """The tokens that they sign are checked as any other; without the development setting nothing starts."""
    file = development.make_keys(tmp_path)
    token = development.make_token(tmp_path, development.ADMIN_ROLE, "development", 60)
    own = settings(jwks_file=file, jwt_issuer=development.ISSUER, development=True)

    keys = Keys.from_settings(own, Metrics())
    caller = Tokens(own, keys).caller(request(f"Bearer {token}"))

    assert (caller.tenant, caller.is_admin) == ("development", True)
    assert keys.tried.is_set(), "an ingress would start seconds late"
    assert stat.S_IMODE((tmp_path / development.PRIVATE_KEY).stat().st_mode) == 0o600
    assert development.make_keys(tmp_path).read_bytes() == file.read_bytes()
    with pytest.raises(ConfigurationError):
        Keys.from_settings(settings(jwks_file=file), Metrics())
    with pytest.raises(JwksError):
        keys_of({"keys": json.loads(file.read_text())["keys"]}, development=False)


# --- keys over time -------------------------------------------------------------------------------------------------------


class Time:
    """Time that passes when a test says so."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def test_no_request_waits_for_keys_and_only_unknown_ones_ask_for_a_refresh() -> None:
    """It is due at its time, or at once for an unknown `kid`, but not twice in 30 seconds for that."""
    clock, source = Time(), Scripted(holds=keys_of(JWKS, development=False))

    async def told() -> list[float]:
        held = Keys(source, Metrics(), clock=clock, first=keys_of(JWKS, development=False))
        due = [held.due_at()]
        held.find("ec")
        due.append(held.due_at())
        held.find("unknown")
        due.append(held.due_at())
        await held.run_once()
        due.append(held.due_at())
        clock.now_s = 10
        held.find("unknown")
        due.append(held.due_at())
        clock.now_s = WANTED_INTERVAL_S
        source.holds = "unreachable"
        await held.run_once()
        return [*due, held.due_at()]

    due = asyncio.run(told())

    assert due[:2] == [300, 300]
    assert due[2] <= 0
    assert due[3:] == [300, WANTED_INTERVAL_S, WANTED_INTERVAL_S + RETRY_INTERVAL_S]
    assert source.reads == 2


@pytest.mark.parametrize("reason", get_args(Reason))
def test_the_last_good_keys_serve_a_day_and_not_a_second_longer(reason: Reason) -> None:
    """Whatever is wrong; then nobody can say whether a token is good, and it is not the caller's fault."""
    clock, source, metrics = Time(), Scripted(holds=reason), Metrics()

    async def fail() -> Keys:
        held = Keys(source, metrics, clock=clock, first=keys_of(JWKS, development=False))
        await held.run_once()
        return held

    held = asyncio.run(fail())
    clock.now_s = AGE_MAX_S
    found, ready = held.find("ec"), held.reasons()
    clock.now_s += 1
    with pytest.raises(ProblemError) as raised:
        held.find("ec")

    assert found is not None
    assert ready == []
    assert raised.value.code == "overloaded"
    assert held.reasons() == [f"keys of the identity provider: older than 24 h ({reason})"]
    assert metrics.registry.get_sample_value("registration_jwks_refresh_failures_total", {"reason": reason}) == 1
    assert metrics.registry.get_sample_value("registration_jwks_age_seconds") == AGE_MAX_S + 1


def test_a_key_that_is_not_for_checking_signatures_is_left_out() -> None:
    """A set says so by `use` or by `key_ops` (RFC 7517, 4.2 and 4.3)."""
    public = RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 2_048).public_key(), as_dict=True)
    entries = [{**public, "kid": "verify", "key_ops": ["verify"]}, {**public, "kid": "encrypt", "key_ops": ["encrypt", "wrapKey"]}]

    assert keys_of({"keys": entries}, development=False).keys() == {"verify"}
