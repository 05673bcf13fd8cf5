"""
The secrets of the dev cluster, made once by its first container: `python -m worker.dev.cluster FOLDER` (docker-compose.yml).

Each role has a folder of its own, which is a volume that only its containers mount (at `/run/secrets`, where settings are read
from): the ingress never holds the worker's login, and neither the owner's. Nothing of it is in the environment of a container,
in an image or in the repository, and it goes with the volumes.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.dev.tokens import JWKS, make_keys

POSTGRES: Final = "postgres"
OPERATOR: Final = "operator"
WORKER: Final = "worker"
INGRESS: Final = "ingress"
LOGINS: Final = ("superuser", "owner", "worker", "ingress", "sessions")
"""Whose passwords `deploy/roles.sql` reads."""
DATABASE: Final = "postgres:5432/registration"
_SECRET_BYTES: Final = 32
_OURS: Final = 0o400
_SERVERS: Final = 0o444
"""PostgreSQL's user is known to its image alone; nobody else mounts that folder."""


def make_secrets(folder: Path) -> None:
    """
    Make what is missing; what is there is kept, so that a second start changes nothing.

    Args:
        folder: with a folder for each role, which are made if need be.
    """
    passwords = {name: _kept(folder / POSTGRES / name, secrets.token_hex(_SECRET_BYTES), _SERVERS) for name in LOGINS}
    sealing = f"cluster:{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
    sealing = _kept(folder / OPERATOR / "REGISTRATION_SEALING_KEYS", sealing)
    _kept(folder / OPERATOR / "REGISTRATION_PUBLISH_KEY", secrets.token_hex(_SECRET_BYTES))
    _kept(folder / WORKER / "REGISTRATION_SEALING_KEYS", sealing)
    for role, url in _urls(passwords).items():
        _kept(folder / role / "REGISTRATION_DATABASE_URL", url)
    keys = make_keys(folder / OPERATOR)
    (folder / INGRESS).mkdir(exist_ok=True)
    shutil.copy(keys, folder / INGRESS / JWKS)


def _urls(passwords: Mapping[str, str]) -> dict[str, str]:
    """Return how each role connects: by a login of its own (README, "Database roles")."""
    logins = {OPERATOR: "owner", WORKER: "worker", INGRESS: "ingress"}
    return {role: f"postgresql://onboarding_{login}:{passwords[login]}@{DATABASE}" for role, login in logins.items()}


def _kept(path: Path, content: str, mode: int = _OURS) -> str:
    """Return what a file holds; one that is missing gets the content, whole or not at all."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        new.chmod(mode)
        new.rename(path)
    return path.read_text()


if __name__ == "__main__":
    make_secrets(Path(sys.argv[1]))
