#!/bin/sh
# Starts a Kafka node: alone, or as one of three. Profile `cluster` says which in a file, before any node starts; it stays with the
# volumes, so that a node that comes back is what it was. (docker-compose.yml; compose itself can't tell a service of a profile.)
set -eu
if [ "$(cat /run/brokers/count 2>/dev/null)" = 3 ]; then
  voters=1@kafka:9093,2@kafka-2:9093,3@kafka-3:9093 replicas=3 insync=2
else
  voters=1@kafka:9093 replicas=1 insync=1
fi
export KAFKA_CONTROLLER_QUORUM_VOTERS="$voters"
export KAFKA_DEFAULT_REPLICATION_FACTOR="$replicas" KAFKA_MIN_INSYNC_REPLICAS="$insync"
export KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="$replicas"
export KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="$replicas" KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="$insync"
export KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR="$replicas" KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR="$insync"
exec /etc/kafka/docker/run
