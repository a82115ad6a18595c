"""Create the Kafka topics that are missing; never touches one that is there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import ALL, Topic, full
from vitalgate.config.transport import kafka_python_options
from vitalgate.local.errors import StackError

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

_LEADERS_S = 15.0


def create_topics(settings: KafkaSettings, topics: Iterable[Topic] = ALL) -> list[str]:
    """Create missing topics with their partition counts and configuration.

    Returns
    -------
    list of str
        Names of the topics that were created; empty when all were there.
    """
    from kafka.admin import KafkaAdminClient, NewTopic
    from kafka.errors import TopicAlreadyExistsError

    admin = KafkaAdminClient(**kafka_python_options(settings), client_id="vitalgate-topics")
    try:
        there = set(admin.list_topics())
        created = []
        wanted = [topic for topic in topics if full(topic, settings) not in there]
        requests = [
            NewTopic(
                full(topic, settings),
                topic.partitions or settings.partitions,
                settings.replication,
                topic_configs=topic.config(settings),
            )
            for topic in wanted
        ]
        if requests:
            try:
                admin.create_topics(requests)
            except TopicAlreadyExistsError:  # somebody else creates them at the same time: one by one, then
                for request in requests:
                    try:
                        admin.create_topics([request])
                    except TopicAlreadyExistsError:
                        continue
            created = [full(topic, settings) for topic in wanted]
            _wait_for_leaders(admin, created)
        return created
    finally:
        admin.close()


def _wait_for_leaders(admin: KafkaAdminClient, names: list[str]) -> None:
    """Wait until every partition answers: a new topic is announced a moment before its leaders serve it."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec
    from kafka.errors import KafkaError

    until = time.monotonic() + _LEADERS_S
    while True:
        try:
            partitions = [
                TopicPartition(entry["name"], part["partition_index"])
                for entry in admin.describe_topics(names)
                for part in entry["partitions"]
            ]
            admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
            return
        except KafkaError as error:
            if time.monotonic() > until:
                raise StackError(
                    f"the topics were created but do not answer within {_LEADERS_S:g} s ({error}); see Kafka's log"
                ) from error
        time.sleep(0.05)
