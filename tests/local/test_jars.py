"""Kafka's jars: pinned, fetched once, never taken when they are not the pinned ones."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from vitalgate.local import jars
from vitalgate.local.errors import PartError
from vitalgate.local.jars import Jar

CONTENT = b"a jar"
GOOD = Jar("org.example", "kafka", "1.0", hashlib.sha256(CONTENT).hexdigest())
BAD = Jar("org.example", "other", "1.0", "0" * 64)


def test_every_pinned_jar_has_a_version_and_a_hash() -> None:
    pinned = jars.pinned()
    assert pinned[0].artifact.startswith("kafka_")
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in pinned)
    assert len({jar.filename for jar in pinned}) == len(pinned)
    names = {jar.artifact for jar in pinned}
    assert {"kafka-clients", "log4j-slf4j-impl", "zstd-jni", "snappy-java"} <= names


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    source = tmp_path / "source.jar"
    source.write_bytes(CONTENT)
    fetched: list[Jar] = []

    def fetch(jar: Jar) -> Path:
        fetched.append(jar)
        return source

    first = jars.classpath(tmp_path / "cache", jars=[GOOD], fetch=fetch)
    assert jars.classpath(tmp_path / "cache", jars=[GOOD], fetch=fetch) == first
    assert fetched == [GOOD]
    assert [path.read_bytes() for path in first] == [CONTENT]


def test_a_jar_with_another_hash_never_enters_the_cache(tmp_path: Path) -> None:
    source = tmp_path / "source.jar"
    source.write_bytes(CONTENT)
    with pytest.raises(PartError, match="pinned is 000"):
        jars.classpath(tmp_path / "cache", jars=[BAD], fetch=lambda _: source)
    assert list((tmp_path / "cache" / "kafka-1.0").iterdir()) == []


def test_a_failing_network_names_the_jar_and_the_remedy(tmp_path: Path) -> None:
    def fetch(_: Jar) -> Path:
        raise ConnectionError("no route")

    with pytest.raises(
        PartError, match=r"org\.example:kafka:1\.0 .* \(no route\); check the network .* kafka\.bootstrap"
    ):
        jars.classpath(tmp_path / "cache", jars=[GOOD], fetch=fetch)
