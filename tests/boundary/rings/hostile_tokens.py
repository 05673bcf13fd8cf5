"""Tokens that are none, by what is changed of a good one, and what they are answered with."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from tests.boundary.bare_http import CANARY
from tests.boundary.ingress_door import TENANT
from worker.dev.tokens import ADMIN_ROLE, AUDIENCE, ISSUER, PRIVATE_KEY

Claims: TypeAlias = dict[str, Any]
GONE: Final = object()
INVALID: Final = (401, "token-invalid")
DENIED: Final = (403, "tenant-denied")
NO_ADMIN: Final = (403, "not-admin")
GOOD: Final = (200, "")


class Forge:
    """Whoever makes tokens: with the trusted key, and with one of their own."""

    def __init__(self, folder: Path) -> None:
        self.trusted: Any = load_pem_private_key((folder / PRIVATE_KEY).read_bytes(), None)
        self.public: Claims = json.loads((folder / "jwks.json").read_text())["keys"][0]
        self.kid = self.public["kid"]
        self.own = generate_private_key(SECP256R1())
        self.own_public = ECAlgorithm.to_jwk(self.own.public_key(), as_dict=True)

    def claims(self, **changed: object) -> Claims:
        """Return good claims, changed."""
        now = int(time.time())
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "hostile",
            "iat": now,
            "exp": now + 600,
            "roles": [ADMIN_ROLE],
            "tenant": TENANT.id,
        }
        return {name: value for name, value in {**good, **changed}.items() if value is not GONE}

    def signed(self, header: object, claims: object, key: Any = None) -> str:  # noqa: ANN401 - a private key
        """Sign whatever it is, by ES256."""
        text = b".".join(part if isinstance(part, bytes) else encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = jwt.get_algorithm_by_name("ES256").sign(text, key or self.trusted)
        return (text + b"." + encoded(signature)).decode("latin-1")

    def of(self, **changed: object) -> str:
        """Return a token of the trusted key with changed claims."""
        return self.signed({"alg": "ES256", "typ": "JWT", "kid": self.kid}, self.claims(**changed))

    def headed(self, key: Any = None, **header: object) -> str:  # noqa: ANN401 - a private key
        """Return a token with good claims and a changed header."""
        whole = {"alg": "ES256", "typ": "JWT", "kid": self.kid, **header}
        return self.signed({name: value for name, value in whole.items() if value is not GONE}, self.claims(), key)

    def by_secret(self, alg: str, secret: bytes) -> str:
        """Return a token that is signed with what everybody has."""
        text = b".".join(encoded(json.dumps(part).encode()) for part in ({"alg": alg, "kid": self.kid}, self.claims()))
        hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        return (text + b"." + encoded(hmac.sign(text, secret))).decode()

    def pem(self) -> bytes:
        """Return the trusted public key as text."""
        pem: bytes = self.trusted.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem


def encoded(content: bytes) -> bytes:
    """Return bytes as a token has them."""
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _parts(token: str) -> list[str]:
    return token.split(".")


def _of_another(forge: Forge) -> str:
    """Return a token with one claim changed after it was signed."""
    first, second = _parts(forge.of(roles=["reader"])), _parts(forge.of())
    return ".".join([first[0], second[1], first[2]])


def _nested(depth: int) -> bytes:
    return encoded(b'{"kid":' + b"[" * depth + b"]" * depth + b"}")


def _high_s(forge: Forge) -> str:
    """Return a signature of zeros."""
    return ".".join([*_parts(forge.of())[:2], encoded(bytes(64)).decode()])


Make: TypeAlias = Callable[[Forge], str]


def _headed(**header: object) -> Make:
    return lambda forge: forge.headed(**header)


def _unsigned(alg: str) -> Make:
    return lambda forge: ".".join([*_parts(forge.headed(alg=alg))[:2], ""])


def _claiming(changed: Mapping[str, object]) -> Make:
    return lambda forge: forge.of(**changed)


_ODD_ALGORITHMS: Final[tuple[object, ...]] = (None, 1, True, [], {}, ["ES256"], CANARY)
_NONE: Final[Mapping[str, Make]] = {
    **{f"alg {alg!r}": _unsigned(alg) for alg in ("none", "None", "NONE", "nOnE", "")},
    **{f"alg {alg!r}, signed": _headed(alg=alg) for alg in ("none", "HS256", "RS256", "ES384", "PS512")},
    **{f"alg {alg!r}": _headed(alg=alg) for alg in _ODD_ALGORITHMS},
    "no alg": _headed(alg=GONE),
    "alg in lower case": lambda forge: forge.headed(alg="es256"),
    "the public key as a secret": lambda forge: forge.by_secret("HS256", forge.pem()),
    "the public key without its end as a secret": lambda forge: forge.by_secret("HS256", forge.pem().strip()),
    "the JWK as a secret": lambda forge: forge.by_secret("HS256", json.dumps(forge.public).encode()),
    "an empty secret": lambda forge: forge.by_secret("HS256", b""),
    "HS384": lambda forge: forge.by_secret("HS384", forge.pem()),
    "another key": lambda forge: forge.headed(forge.own),
    "another key that it brings": lambda forge: forge.headed(forge.own, jwk=forge.own_public),
    "another key that it brings, no kid": lambda forge: forge.headed(forge.own, jwk=forge.own_public, kid=GONE),
    "another key by jku": lambda forge: forge.headed(forge.own, jku=f"https://{CANARY}.example.com/jwks.json"),
    "another key by jku, a file": lambda forge: forge.headed(forge.own, jku="file:///etc/passwd", kid="x"),
    "another key by x5u": lambda forge: forge.headed(forge.own, x5u=f"https://{CANARY}.example.com/x", x5t="AAAA"),
    "another key by x5c": lambda forge: forge.headed(forge.own, x5c=["AAAA"]),
    **{
        f"kid {name}": _headed(kid=kid)
        for name, kid in {
            "of a path": "../../../../dev/null",
            "of SQL": "' OR 1=1 --",
            "of a URL": f"https://{CANARY}.example.com",
            "empty": "",
            "null": None,
            "number": 1,
            "list": [],
            "object": {},
            "nul": "\0",
            "surrogate": "\ud800",
            "long": "k" * 5_000,
            "not there": GONE,
            "percent": "%s%n{0}",
            "bidi": "\u202e",
        }.items()
    },
    "kid with a space": lambda forge: forge.headed(kid=forge.kid + " "),
    "kid in upper case": lambda forge: forge.headed(kid=forge.kid.upper()),
    "kid in a list": lambda forge: forge.headed(kid=[forge.kid]),
    "crit": lambda forge: forge.headed(crit=["exp"]),
    "crit, unknown": lambda forge: forge.headed(crit=[CANARY], hunter2=1),
    "crit, empty": lambda forge: forge.headed(crit=[]),
    "b64": lambda forge: forge.headed(b64=False, crit=["b64"]),
    "b64 without crit": lambda forge: forge.headed(b64=False),
    "header a list": lambda forge: forge.signed([], forge.claims()),
    "header a text": lambda forge: forge.signed("x", forge.claims()),
    "header null": lambda forge: forge.signed(None, forge.claims()),
    "header no JSON": lambda forge: forge.signed(encoded(b"{"), forge.claims()),
    "header no UTF-8": lambda forge: forge.signed(encoded(b'{"alg":"\xff"}'), forge.claims()),
    "header empty": lambda forge: forge.signed(b"", forge.claims()),
    "header nested 200 deep": lambda forge: forge.signed(_nested(200), forge.claims()),
    "header nested 5,000 deep": lambda forge: forge.signed(_nested(5_000), forge.claims()),
    "header with a number of 5,000 digits": lambda forge: forge.signed(encoded(b'{"kid":' + b"9" * 5_000 + b"}"), forge.claims()),
    "claims a list": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, []),
    "claims a text": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, "x"),
    "claims null": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, None),
    "claims empty": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, {}),
    "claims no JSON": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, encoded(b"{")),
    "claims nested 5,000 deep": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, _nested(5_000)),
    "claims without bytes": lambda forge: forge.signed({"alg": "ES256", "kid": forge.kid}, b""),
    "a claim of another token": _of_another,
    "signature of zeros": _high_s,
    "signature cut off": lambda forge: forge.of()[:-4],
    "signature empty": lambda forge: ".".join([*_parts(forge.of())[:2], ""]),
    "signature in DER": lambda forge: ".".join(
        [*_parts(forge.of())[:2], encoded(forge.trusted.sign(b"x", ECDSA(SHA256()))).decode()],
    ),
    "signature by another hash": lambda forge: ".".join(
        [*_parts(forge.of())[:2], encoded(forge.trusted.sign(b"x", ECDSA(SHA384()))).decode()],
    ),
    "signature is no base64": lambda forge: ".".join([*_parts(forge.of())[:2], "!!!!"]),
    "two parts": lambda forge: ".".join(_parts(forge.of())[:2]),
    "four parts": lambda forge: forge.of() + ".AAAA",
    "five parts, as of JWE": lambda _forge: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA",
    "dots": lambda _forge: "..",
    "one word": lambda _forge: CANARY,
    "as JSON": lambda _forge: '{"payload":"","signatures":[]}',
    "in quotes": lambda forge: f'"{forge.of()}"',
    "doubled": lambda forge: f"{forge.of()} {forge.of()}",
    "in a list": lambda forge: f"{forge.of()},{forge.of()}",
}
_CLAIMS: Final[Mapping[str, tuple[Mapping[str, object], tuple[int, str]]]] = {
    **{f"{claim} not there": ({claim: GONE}, INVALID) for claim in ("exp", "iss", "aud", "sub")},
    **{f"{claim} null": ({claim: None}, INVALID) for claim in ("exp", "iss", "aud", "sub")},
    **{f"{claim} an object": ({claim: {"a": CANARY}}, INVALID) for claim in ("exp", "iss", "aud", "sub", "nbf", "iat")},
    **{f"{claim} a list": ({claim: [1]}, INVALID) for claim in ("exp", "iss", "aud", "sub", "nbf", "iat")},
    **{f"{claim} infinite": ({claim: float("inf")}, INVALID) for claim in ("exp", "nbf", "iat")},
    **{f"{claim} not a number": ({claim: float("nan")}, INVALID) for claim in ("exp", "nbf", "iat")},
    **{f"{claim} text": ({claim: CANARY}, INVALID) for claim in ("exp", "nbf", "iat", "iss", "aud")},
    "expired": ({"exp": 1}, INVALID),
    "expired before time began": ({"exp": -(10**18)}, INVALID),
    "expires in the year 10^9": ({"exp": 10**16}, GOOD),
    "expires beyond any number": ({"exp": 10**4_000}, GOOD),
    "expires at a fraction": ({"exp": 9999999999.5}, GOOD),
    "expires as text": ({"exp": "9999999999"}, GOOD),
    "not yet valid": ({"nbf": 9_999_999_999}, INVALID),
    "issued later": ({"iat": 9_999_999_999}, INVALID),
    "issuer in upper case": ({"iss": ISSUER.upper()}, INVALID),
    "issuer with a slash": ({"iss": ISSUER + "/"}, INVALID),
    "issuers in a list": ({"iss": [ISSUER]}, INVALID),
    "audience among others": ({"aud": ["x", AUDIENCE]}, GOOD),
    "audience of others": ({"aud": ["x", "y"]}, INVALID),
    "audience that holds ours": ({"aud": AUDIENCE + "x"}, INVALID),
    "audiences of other kinds": ({"aud": [1, None, AUDIENCE]}, INVALID),
    "no audience": ({"aud": []}, INVALID),
    "subject empty": ({"sub": ""}, INVALID),
    "subject a number": ({"sub": 7}, INVALID),
    "subject true": ({"sub": True}, INVALID),
    "subject of 255": ({"sub": "s" * 255}, GOOD),
    "subject of 256": ({"sub": "s" * 256}, INVALID),
    "subject with a nul": ({"sub": "a\0"}, INVALID),
    "subject with a line end": ({"sub": f"a\n{CANARY}"}, INVALID),
    "subject with a bidi control": ({"sub": "\u202e"}, INVALID),
    "subject with a surrogate": ({"sub": "\ud800"}, INVALID),
    "subject in another script": ({"sub": "Žukauskaitė 王"}, GOOD),
    "claims of 12 KB": ({"more": "m" * 8_000}, GOOD),
    "claims of 10,000 members": ({"more": dict.fromkeys(map(str, range(800)), 1)}, GOOD),
    "roles not there": ({"roles": GONE}, NO_ADMIN),
    "roles empty": ({"roles": []}, NO_ADMIN),
    "roles null": ({"roles": None}, NO_ADMIN),
    "roles true": ({"roles": True}, NO_ADMIN),
    "roles an object": ({"roles": {ADMIN_ROLE: True}}, NO_ADMIN),
    "roles of other kinds": ({"roles": [1, None, {}, [ADMIN_ROLE]]}, NO_ADMIN),
    "role in upper case": ({"roles": [ADMIN_ROLE.upper()]}, NO_ADMIN),
    "role that holds ours": ({"roles": f"x-{ADMIN_ROLE}"}, NO_ADMIN),
    "role with a nul": ({"roles": [ADMIN_ROLE + "\0"]}, NO_ADMIN),
    "role of look-alikes": ({"roles": [ADMIN_ROLE.replace("a", "\u0430")]}, NO_ADMIN),
    "roles in a text": ({"roles": f"reader {ADMIN_ROLE}"}, GOOD),
    "tenant not there": ({"tenant": GONE}, DENIED),
    "tenant null": ({"tenant": None}, DENIED),
    "tenant a list": ({"tenant": [TENANT.id]}, DENIED),
    "tenant a number": ({"tenant": 1}, DENIED),
    "tenant of others": ({"tenant": CANARY}, DENIED),
    "tenant with a space": ({"tenant": TENANT.id + " "}, DENIED),
    "tenant in upper case": ({"tenant": TENANT.slug.upper()}, DENIED),
    "tenant with a nul": ({"tenant": TENANT.slug + "\0"}, DENIED),
    "tenant with a surrogate": ({"tenant": "\ud800"}, DENIED),
    "tenant in full width": ({"tenant": "\uff44\uff45\uff56"}, DENIED),
    "tenant by its slug": ({"tenant": TENANT.slug}, GOOD),
}


CASES: Final[Mapping[str, tuple[Make, tuple[int, str]]]] = {
    **{name: (make, INVALID) for name, make in _NONE.items()},
    "with padding": (lambda forge: forge.of() + "==", GOOD),
    **{name: (_claiming(changed), answer) for name, (changed, answer) in _CLAIMS.items()},
}
"""What makes the token, and status and code of the answer."""
