"""The dev cluster with one Kafka node, from `docker compose up` to `down`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import httpx
import pytest

from tests import commands
from tests.docker.compose import DOWNSTREAM, Cluster, docker, register, running, until
from worker.dev.client_script import HIERARCHY


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Everything, with one Kafka node."""
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[httpx.Client]:
    """Somebody with a token."""
    with cluster.client() as client:
        yield client


def test_both_services_downstream_ask_a_new_customer(cluster: Cluster, client: httpx.Client) -> None:
    """What the decision names, once; and nothing personal."""
    email = commands.email_of("cluster")
    customer = register(client, commands.body_of(email), email)
    [checks] = until(lambda: cluster.asked("verification", customer), "verification asks")
    [consents] = until(lambda: cluster.asked("consent", customer), "consent asks")

    assert (checks["event"], checks["checks"]) == ("verification.requested", ["GOVERNMENT_ID", "PROOF_OF_ADDRESS"])
    assert consents["event"] == "consent.requested"
    assert {each["code"] for each in consents["consents"]} == {"TERMS_AND_CONDITIONS", "PRIVACY_POLICY", "DATA_PROCESSING"}
    assert not any(personal in json.dumps([checks, consents]) for personal in (email, "Marcus", "Jensen"))


def test_a_fact_that_is_told_again_after_a_restart_is_not_acted_on_again(cluster: Cluster, client: httpx.Client) -> None:
    """What a service has acted on survives it."""
    customer = register(client, commands.body_of(commands.email_of("again")), commands.email_of("key"))
    for service in DOWNSTREAM:
        until(partial(cluster.asked, service, customer), f"{service} asks")
    cluster.compose("restart", *DOWNSTREAM)
    cluster.operate("events", "republish", "--from", "2020-01-01T00:00:00Z")
    for service in DOWNSTREAM:
        until(partial(cluster.has_read_all, service), f"{service} has read what was told again")

        assert len(cluster.asked(service, customer)) == 1


def test_a_second_start_changes_nothing(cluster: Cluster, client: httpx.Client) -> None:
    """Secrets stay, what runs stays, and what runs once ends well again."""
    before = cluster.compose("ps", "--quiet", "worker", "ingress", "postgres", "kafka")
    cluster.compose("up", "--wait")

    assert cluster.compose("ps", "--quiet", "worker", "ingress", "postgres", "kafka") == before
    assert client.get(HIERARCHY).status_code == 200


def test_the_seed_s_people_are_registered(cluster: Cluster) -> None:
    """All of them, or refused as some of them must be."""
    cluster.compose("run", "--rm", "-T", "--entrypoint", "python", "operator", "-m", "worker.dev.seed", "--people", "40")


def test_processes_log_in_as_what_they_are(cluster: Cluster) -> None:
    """The three logins of the README, and the owner, who is no superuser."""
    query = "SELECT rolname, rolsuper FROM pg_roles WHERE rolcanlogin ORDER BY rolname"
    printed = cluster.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "registration", "-Atc", query)
    query = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'registration-%' ORDER BY usename"
    at_work = cluster.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "registration", "-Atc", query)

    logins = ["onboarding_ingress|f", "onboarding_owner|f", "onboarding_sessions|f", "onboarding_worker|f", "postgres|t"]
    assert printed.split() == logins
    assert at_work.split() == ["onboarding_ingress", "onboarding_worker"]


def test_a_worker_that_is_told_to_stop_finishes_and_ends_well(cluster: Cluster) -> None:
    """SIGTERM drains, and the exit code says so."""
    [container, *_] = cluster.compose("ps", "--quiet", "worker").split()
    docker("stop", "--time", "60", container)

    assert docker("inspect", "--format", "{{.State.ExitCode}}", container).strip() == "0"
