"""Create the Kafka topics that are missing; never touches one that is there."""

from __future__ import annotations

from collections.abc import Iterable

from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import ALL, Topic, full


def create_topics(settings: KafkaSettings, topics: Iterable[Topic] = ALL) -> list[str]:
    """Create missing topics with their partition counts and configuration.

    Returns
    -------
    list of str
        Names of the topics that were created; empty when all were there.
    """
    from kafka.admin import KafkaAdminClient, NewTopic
    from kafka.errors import TopicAlreadyExistsError

    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap.split(","), client_id="vitalgate-topics")
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
        return created
    finally:
        admin.close()
