"""What any release accepted is accepted by this one, and understood as it was then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitalgate.devices import catalogue

from .corpus import FOLDER, examples, understood
from .support import Feed

RELEASES = sorted(FOLDER.glob("*.jsonl"))


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_the_bytes_of_a_release_are_understood_as_then(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, leaf, payload, expected = json.loads(line)
        assert understood(Feed(kind).send(bytes.fromhex(payload), leaf)) == expected


def test_the_corpus_covers_every_metric_and_channel() -> None:
    assert RELEASES
    text = "".join(path.read_text(encoding="utf-8") for path in RELEASES)
    for kind in catalogue.load().kinds.values():
        for name in (*kind.metrics, *kind.channels):
            assert f'"{name}"' in text


def test_examples_are_refused_only_where_they_mean_to_be() -> None:
    refused = [
        dead for kind, leaf, payload in examples() for dead in Feed(kind).send(payload, leaf).dead
    ]  # fmt: skip
    assert {dead.reason for dead in refused} == {"out_of_range"}
