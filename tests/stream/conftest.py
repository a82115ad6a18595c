"""A Kafka node for this room's tests, and topics of their own for every test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stream.pipeline import Pipeline, wait_for
from tests.stream.stream_probe import MakeSettings
from vitalgate.config.loading import load
from vitalgate.config.settings import Settings
from vitalgate.config.topics import Topic
from vitalgate.local.topics import create_topics

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Address of Kafka; TEST_KAFKA names one that already runs."""
    return os.environ.get("TEST_KAFKA") or str(request.getfixturevalue("kafka_bootstrap"))


@pytest.fixture(scope="session")
def dsn(request: pytest.FixtureRequest) -> str:
    """A database; TEST_DSN names one that already runs."""
    return os.environ.get("TEST_DSN") or str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture(scope="session")
def pipeline(bootstrap: str, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """intake, recorder and archiver, running; in the end they must stop cleanly and have met nothing unexpected."""
    made = Pipeline(bootstrap, dsn, tmp_path_factory.mktemp("pipeline"))
    try:
        names = ("intake", "recorder", "archiver")
        made.start(*names)
        wait_for(lambda: all(made.is_ready(name) for name in names))
        yield made
        assert [made.stop(name) for name in names] == [0, 0, 0]
        assert "exception" not in made.log("intake") + made.log("recorder")
    finally:
        made.close()


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
