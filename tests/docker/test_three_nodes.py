"""The dev cluster with three Kafka nodes: registrations go through it where a part of it is killed."""

from __future__ import annotations

import json
from functools import partial

from tests import commands
from tests.docker.compose import DOWNSTREAM, docker, register, running, until


def test_with_three_nodes_losing_one_and_a_worker_loses_nothing() -> None:
    """The node that everybody met first goes, and a worker in its work; what was answered is there, and work goes on."""
    with running("cluster") as cluster, cluster.client() as client:
        assert set(cluster.topics().values()) == {(3, 2)}
        before = [register(client, commands.body_of(email), email) for email in map(commands.email_of, range(5))]
        [worker, *_] = cluster.compose("ps", "--quiet", "worker").split()
        docker("kill", worker)
        cluster.compose("kill", "kafka")
        left = cluster.compose("ps", "--services", "--status", "running").split()
        after = [register(client, commands.body_of(email), email) for email in map(commands.email_of, range(5))]
        for service in DOWNSTREAM:
            for customer in before + after:
                until(partial(cluster.asked, service, customer), f"{service} asks")

                assert len(cluster.asked(service, customer)) == 1
        report = json.loads(cluster.operate("verify", "--json"))

        assert "kafka" not in left
        assert {"kafka-2", "kafka-3", "worker"} <= set(left)
        assert report["ok"] is True
