"""Kafka: topics as the table says, quick to come back, three nodes for the fault tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from vitalgate.config.loading import load
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.topics import ALL, full
from vitalgate.local.errors import PartError
from vitalgate.local.kafka import Kafka, _random_id
from vitalgate.local.layout import Layout, State
from vitalgate.local.ports import Ports
from vitalgate.local.topics import create_topics


@pytest.fixture
def settings(kafka_bootstrap: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka_bootstrap, prefix="topics-test.", partitions=3)


def test_topics_are_made_once_with_their_shapes(settings: KafkaSettings) -> None:
    names = sorted(full(topic, settings) for topic in ALL)
    assert sorted(create_topics(settings)) == names
    assert create_topics(settings) == []
    admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap)
    try:
        found = {entry["name"]: len(entry["partitions"]) for entry in admin.describe_topics(names)}
        assert found == {full(topic, settings): topic.partitions or 3 for topic in ALL}
    finally:
        admin.close()


@pytest.mark.parametrize(
    ("before", "nodes", "says"),
    [
        (None, "2", "kafka.nodes is 2, it must be 1 or 3; give"),
        (1, "3", "kafka.nodes is 3, it must be 1 or 3; this data directory was made with 1; give"),
    ],
)
def test_a_number_of_nodes_that_cannot_work_is_refused(
    tmp_path: Path, before: int | None, nodes: str, says: str
) -> None:
    layout = Layout.at(tmp_path)
    layout.create()
    state = State(layout)
    state.set("kafka_nodes", before)
    loaded = load(env={}, data=str(tmp_path), flags={"kafka.nodes": nodes})
    with pytest.raises(PartError, match=says):
        Kafka(layout, state, Ports(state), loaded).prepare()


def test_a_random_id_is_what_kafka_takes() -> None:
    ids = {_random_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(each) == 22 and not each.startswith("-") for each in ids)
