"""The door to Kafka: nothing else in this project imports aiokafka."""

from worker.kafka.member import Assignments, Member, Membership
from worker.kafka.producer import Producer, UnacknowledgedError
from worker.kafka.reader import Reader
from worker.kafka.records import (
    CALL_TIMEOUT_S,
    DEAD_LETTER_MAX_BYTES,
    LOG_APPEND_TIME,
    MESSAGE_MAX_BYTES,
    OutMessage,
    Partition,
    PlainRecord,
    Record,
    Sent,
    bounded,
    size_bytes,
)
from worker.kafka.security import PLAINTEXT, Security, security_of
from worker.kafka.topics import create_topics, topic_settings

__all__ = [
    "CALL_TIMEOUT_S",
    "DEAD_LETTER_MAX_BYTES",
    "LOG_APPEND_TIME",
    "MESSAGE_MAX_BYTES",
    "PLAINTEXT",
    "Assignments",
    "Member",
    "Membership",
    "OutMessage",
    "Partition",
    "PlainRecord",
    "Producer",
    "Reader",
    "Record",
    "Security",
    "Sent",
    "UnacknowledgedError",
    "bounded",
    "create_topics",
    "security_of",
    "size_bytes",
    "topic_settings",
]
