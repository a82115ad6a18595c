"""A Kafka node for this room's tests, and topics of their own for every test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stream.stream_probe import MakeSettings
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.config.topics import Topic
from vitalgate.local.stack import Stack
from vitalgate.local.topics import create_topics

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def kafka_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A node that belongs to this room alone, so that a test may stop it."""
    with Stack(tmp_path_factory.mktemp("stream-kafka"), only={"kafka"}) as stack:
        yield stack


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Address of Kafka; VITALGATE_KAFKA_BOOTSTRAP names one that already runs."""
    given = os.environ.get("VITALGATE_KAFKA_BOOTSTRAP")
    return given or request.getfixturevalue("kafka_stack").settings.settings.kafka.bootstrap


@pytest.fixture
def make_settings(bootstrap: str, tmp_path: Path) -> MakeSettings:
    """Settings with a topic prefix of their own and these topics made; further flags as on the command line."""

    def make(*topics: Topic, **flags: str) -> Settings:
        given = {
            "kafka.bootstrap": bootstrap,
            "kafka.prefix": f"t{os.getpid()}-{next(_numbers)}.",
            "kafka.partitions": "4",
            **{name.replace("__", "."): value for name, value in flags.items()},
        }
        settings = load(flags=given, env={}, data=str(tmp_path / "data")).settings
        create_topics(settings.kafka, topics)
        return settings

    return make
