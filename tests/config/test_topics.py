"""Topic names: prefixed, unique, and MQTT topics that parse back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings


def test_names_are_unique_and_prefixed() -> None:
    assert len({topic.name for topic in topics.ALL}) == len(topics.ALL)
    assert topics.full(topics.RAW, KafkaSettings(prefix="a.")) == "a.device.raw"


def test_compacted_topics_never_expire() -> None:
    for topic in topics.ALL:
        config = topic.config(KafkaSettings())
        assert (config["cleanup.policy"] == "compact") == topic.compacted
        assert ("retention.ms" in config) != topic.compacted


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.sampled_from(topics.MQTT_KINDS))
def test_device_topics_parse_back(device: str, leaf: str) -> None:
    assert topics.parse_device_topic(topics.device_topic(device, leaf)) == (device, leaf)


@given(st.text())
def test_no_other_topic_is_taken_for_a_device_topic(text: str) -> None:
    parsed = topics.parse_device_topic(text)
    assert parsed is None or topics.device_topic(*parsed) == text
