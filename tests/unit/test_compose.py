"""The dev cluster as its file says it: open to this machine alone, no more rights than it needs, no secret written down."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "registration-worker")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]
SECRET = re.compile(r"password|secret|token|key", re.IGNORECASE)


def test_every_role_runs_the_one_image_and_one_service_builds_it() -> None:
    """What is tested is what runs, whatever the role."""
    assert set(OURS) >= {"secrets", "migrate", "catalogue", "ingress", "worker", "verification", "consent", "operator"}
    assert [name for name, service in SERVICES.items() if "build" in service] == ["secrets"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_has_more_of_the_machine_than_it_needs(name: str) -> None:
    """No privileges, no host's namespaces, no engine's socket, nothing to gain by a set-user-id program."""
    service = SERVICES[name]

    assert not {"privileged", "pid", "ipc", "userns_mode", "devices", "cap_add"} & service.keys()
    assert service.get("network_mode", "none") == "none"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "docker.sock" not in str(service.get("volumes"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_on_this_machine_alone(name: str) -> None:
    """Who is elsewhere reaches nothing."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_change_nothing_of_themselves(name: str) -> None:
    """The root file system is read-only, and no capability is left."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "user" not in service, "the image's user, who is not root"


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_an_environment(name: str) -> None:
    """Secrets are files of volumes: what an environment has, `docker inspect` shows."""
    environment = SERVICES[name].get("environment", {})
    named = {variable: value for variable, value in environment.items() if SECRET.search(variable)}

    assert named == {}
    assert "://" not in str([value for value in environment.values() if "@" in value])


def test_each_role_holds_its_own_secrets_only() -> None:
    """The ingress has not the worker's login, neither of them the owner's, and the servers' passwords are with the server."""
    holders = {
        volume.split(":")[0]: sorted(name for name, service in SERVICES.items() if volume in service.get("volumes", ()))
        for service in SERVICES.values()
        for volume in service.get("volumes", ())
        if "-secrets:" in volume and "/made/" not in volume
    }

    assert holders == {
        "postgres-secrets": ["postgres"],
        "operator-secrets": ["catalogue", "migrate", "operator"],
        "worker-secrets": ["worker"],
        "ingress-secrets": ["ingress"],
    }


def test_a_service_is_healthy_before_another_one_needs_it() -> None:
    """Servers by their health check, what runs once by its end."""
    once = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            assert how["condition"] == ("service_completed_successfully" if needed in once else "service_healthy")


@pytest.mark.parametrize("name", ["ingress", "worker", "verification", "consent"])
def test_spans_go_where_the_callers_environment_says_and_else_nowhere(name: str) -> None:
    """One variable for the whole trace; empty, nothing of it is imported."""
    environment = SERVICES[name]["environment"]

    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"
    assert environment["OTEL_TRACES_EXPORTER"] == "${OTEL_TRACES_EXPORTER:-}"


def test_the_image_is_made_of_locked_wheels_by_any_builder() -> None:
    """Hashes for each package, no compiler, and no syntax of one builder alone."""
    assert "--require-hashes --only-binary :all:" in DOCKERFILE
    assert "-r /build/telemetry.txt" in DOCKERFILE
    assert "RUN --" not in DOCKERFILE
    assert "# syntax" not in DOCKERFILE


def test_the_image_runs_as_nobody_s_root_and_says_how_it_is() -> None:
    """A user by number, so that an orchestrator can see that it is not root; a health check; the signal that drains."""
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", FINAL_STAGE, re.MULTILINE)
    assert "HEALTHCHECK" in FINAL_STAGE
    assert "STOPSIGNAL SIGTERM" in FINAL_STAGE
    assert re.search(r'^ENTRYPOINT \["', FINAL_STAGE, re.MULTILINE), "no shell that would swallow the signal"
    assert "org.opencontainers.image.title" in FINAL_STAGE


def test_what_the_image_copies_reaches_the_builder() -> None:
    """Else the build fails, which no other fast test would see."""
    sources = {
        name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]
    }  # the last word is where to
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert sources == sent
    assert [name for name in sources if not (ROOT / name).exists()] == []


def test_the_image_is_labelled_with_the_project_s_version() -> None:
    """Where the builder names no other."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert f"\nARG VERSION={version}\n" in DOCKERFILE


def test_the_final_image_never_hears_of_a_package_index() -> None:
    """An address may hold a password, and an argument stays in the history of the stage that takes it."""
    assert "PIP_" not in FINAL_STAGE
    assert not re.search(r"^ARG \w+=.*://", DOCKERFILE, re.MULTILINE)
