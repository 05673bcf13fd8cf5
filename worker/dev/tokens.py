"""Tokens for development: a key pair in a folder, and tokens signed with it, which only `registration dev` accepts."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

ISSUER: Final = "urn:registration:development"
AUDIENCE: Final = "registration"
ADMIN_ROLE: Final = "registration-admin"
SUBJECT: Final = "developer"
PRIVATE_KEY: Final = "development-key.pem"
JWKS: Final = "jwks.json"


def make_keys(folder: Path) -> Path:
    """
    Make the key pair, unless the folder has one.

    Args:
        folder: where the private key (only we may read it) and the JWKS go; it is made if need be.
    Returns:
        The JWKS file, for `REGISTRATION_JWKS_FILE`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jwks, private = folder / JWKS, folder / PRIVATE_KEY
    if not (jwks.exists() and private.exists()):
        key = generate_private_key(SECP256R1())
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        entry = {**public, "kid": f"development-{secrets.token_hex(4)}", "alg": "ES256", "use": "sig", "development": True}
        _write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _write(jwks, json.dumps({"development": True, "keys": [entry]}, indent=2).encode(), 0o644)
    return jwks


def make_token(folder: Path, role: str, tenant: str, ttl_s: int, subject: str = SUBJECT) -> str:
    """
    Sign a token.

    Args:
        folder: where `make_keys` made the keys.
        role: the role that it gives.
        tenant: the tenant's id or slug.
        ttl_s: seconds until it expires.
        subject: who calls.
    Raises:
        FileNotFoundError: there are no keys.
    """
    key = load_pem_private_key((folder / PRIVATE_KEY).read_bytes(), None)
    if not isinstance(key, EllipticCurvePrivateKey):
        msg = f"{folder / PRIVATE_KEY} holds another kind of key"
        raise TypeError(msg)
    kid = json.loads((folder / JWKS).read_bytes())["keys"][0]["kid"]
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": now,
        "exp": now + ttl_s,
        "roles": [role],
        "tenant": tenant,
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is whole or not there, and never readable by more than `mode` says."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    new.rename(path)
