"""The dev cluster under a name of its own, beside whatever else this machine's Docker runs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from worker.dev.client_script import PLURAL

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = "registration-worker"
DOWNSTREAM: Final = ("verification", "consent")
UP_WITHIN_S: Final = 1200.0
"""With the image, whose packages may come from far."""
RUN_WITHIN_S: Final = 180.0
SEEN_WITHIN_S: Final = 120.0
POLL_S: Final = 0.5
T = TypeVar("T")
_TOPICS: Final = """
import asyncio, json
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers="brokers:9092")
    await admin.start()
    found = []
    for topic in await admin.describe_topics():
        if topic["topic"].startswith("customer."):
            [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic["topic"])])
            settings = {name: value for name, value, *_ in answer.resources[0][4]}
            copies = min(len(partition["replicas"]) for partition in topic["partitions"])
            found.append((topic["topic"], copies, int(settings["min.insync.replicas"])))
    await admin.close()
    print(json.dumps(found))

asyncio.run(main())
"""


def docker(*arguments: str, within_s: float = RUN_WITHIN_S, environment: Mapping[str, str] | None = None) -> str:
    """Run a command of Docker; return what it printed."""
    ended = subprocess.run(  # noqa: S603 - our own arguments
        ["docker", *arguments],  # noqa: S607 - wherever it is installed
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert ended.returncode == 0, f"docker {' '.join(arguments)}: {ended.stderr[-4000:]}{ended.stdout[-1000:]}"
    return ended.stdout


def until(condition: Callable[[], T], what: str, within_s: float = SEEN_WITHIN_S) -> T:
    """Ask again and again until the answer is true; return it."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(POLL_S)
    return found


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running one: its project's name, and the profile it was started with."""

    project: str
    profiles: tuple[str, ...] = ()

    def compose(self, *arguments: str, within_s: float = RUN_WITHIN_S) -> str:
        """Run a command of compose; any free port is the ingress's."""
        profiles = [part for name in self.profiles for part in ("--profile", name)]
        environment = {"REGISTRATION_PORT": "0", "COMPOSE_PROGRESS": "quiet"}
        return docker("compose", "-p", self.project, *profiles, *arguments, within_s=within_s, environment=environment)

    def operate(self, *arguments: str) -> str:
        """Run an operator's command."""
        return self.compose("run", "--rm", "-T", "operator", *arguments)

    def said(self, service: str) -> list[dict[str, Any]]:
        """Return a service's log so far, of all its containers."""
        lines = self.compose("logs", "--no-log-prefix", "--no-color", service).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def asked(self, service: str, customer_id: str) -> list[dict[str, Any]]:
        """Return what a service downstream has asked of a customer."""
        return [line for line in self.said(service) if line.get("customer_id") == customer_id]

    def has_read_all(self, group: str) -> bool:
        """Whether a consumer group has committed each partition's end."""
        tool = ("/opt/kafka/bin/kafka-consumer-groups.sh", "--bootstrap-server", "brokers:9092", "--describe", "--group", group)
        header, *rows = [line.split() for line in self.compose("exec", "-T", "kafka", *tool).splitlines() if line.strip()]
        lags = [row[header.index("LAG")] for row in rows]
        # A dash: nothing was ever committed there.
        return bool(lags) and all(lag in {"0", "-"} for lag in lags)

    def topics(self) -> dict[str, tuple[int, int]]:
        """Return of each of our topics the fewest copies of a partition, and how many of them must have a record."""
        printed = self.compose("run", "--rm", "-T", "--entrypoint", "python", "operator", "-c", _TOPICS)
        return {name: (copies, in_sync) for name, copies, in_sync in json.loads(printed.splitlines()[-1])}

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Return a client of the ingress, with a token."""
        address = self.compose("port", "ingress", "8080").strip()
        token = self.operate("token").strip()
        headers = {"Authorization": f"Bearer {token}", "X-Tenant-ID": "development"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, timeout=30) as client:
            yield client


def register(client: httpx.Client, body: Mapping[str, Any], key: str) -> str:
    """Register somebody, as a client does it: with a key, and again while it is told to; return the customer's id."""

    def post() -> httpx.Response | None:
        answer = client.post(PLURAL, json=body, headers={"Idempotency-Key": key})
        assert answer.status_code in {201, 202, 503}, answer.text
        return answer if answer.status_code == httpx.codes.CREATED else None

    answer = until(post, "the registration is done")
    assert answer is not None
    return str(answer.json()["data"]["id"])


@contextmanager
def running(*profiles: str) -> Iterator[Cluster]:
    """Run a cluster for the length of a block; at its end nothing is left of it, and that is looked at."""
    cluster = Cluster(f"registration-test-{os.urandom(4).hex()}", profiles)
    try:
        cluster.compose("up", "--build", "--wait", within_s=UP_WITHIN_S)
        yield cluster
    finally:
        cluster.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")
    label = f"label=com.docker.compose.project={cluster.project}"
    left = [docker(*kind, "--quiet", "--filter", label) for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls"))]
    assert left == ["", "", ""]
