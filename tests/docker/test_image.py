"""The image, as the engine knows it: what is in it, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.compose import docker

IMAGE = "registration-worker-test"
OWN_SIZE_MAX_BYTES = 250_000_000
CANARY = "canary-of-a-package-index.example"


@pytest.fixture(scope="module")
def image() -> Iterator[dict[str, Any]]:
    """What the engine says of the image, built from this tree by someone with a package index of their own."""
    docker("build", "--quiet", "--build-arg", f"PIP_TRUSTED_HOST={CANARY}", "--tag", IMAGE, ".", within_s=1200)
    try:
        [found] = json.loads(docker("image", "inspect", IMAGE))
        yield dict(found)
    finally:
        docker("image", "rm", IMAGE)


def test_it_is_small(image: dict[str, Any]) -> None:
    """Beside its base, which other images share."""
    [base] = json.loads(docker("image", "inspect", image["Config"]["Labels"]["org.opencontainers.image.base.name"]))

    assert image["Size"] - base["Size"] < OWN_SIZE_MAX_BYTES


def test_it_says_what_it_is_and_runs_as_nobody_s_root(image: dict[str, Any]) -> None:
    """Labels, user, health check and signal."""
    labels = image["Config"]["Labels"]

    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["StopSignal"] == "SIGTERM"
    assert image["Config"]["Healthcheck"]["Test"][0] == "CMD"
    assert {f"org.opencontainers.image.{name}" for name in ("title", "description", "version", "revision")} <= labels.keys()


@pytest.mark.usefixtures("image")
def test_nothing_of_a_package_index_is_in_it(tmp_path: Path) -> None:
    """Neither in a layer nor in its history or settings; and pip is not in the environment of the worker."""
    docker("image", "save", "--output", str(tmp_path / "image.tar"), IMAGE)
    content = (tmp_path / "image.tar").read_bytes()
    (tmp_path / "image.tar").unlink()

    assert b"org.opencontainers.image.title" in content
    assert CANARY.encode() not in content
    assert CANARY not in docker("history", "--no-trunc", IMAGE)
    assert inside("ls /opt/registration/bin | grep -c pip || true").strip() == "0"


@pytest.mark.usefixtures("image")
def test_it_holds_no_compiler_and_needs_no_file_system_to_write_to() -> None:
    """Read-only, without capabilities, and a command still runs."""
    assert inside("command -v gcc cc g++ make || true").strip() == ""
    assert "Onboards private customers" in docker("run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", IMAGE)


def inside(script: str) -> str:
    """Run a shell script in a container of the image; return what it printed."""
    return docker("run", "--rm", "--read-only", "--network", "none", "--entrypoint", "/bin/sh", IMAGE, "-c", script)
