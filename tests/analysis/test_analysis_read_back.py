"""What a stranger left among our results is passed over when the analysis reads them back at a start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from vitalgate.config import topics
from vitalgate.config.loading import load
from vitalgate.signal import beats as detector
from vitalgate.stream import analysis, lookback
from vitalgate.stream.analysis_core import AnalysisCore
from vitalgate.stream.analysis_features import ALGORITHM, ALGORITHM_VERSION
from vitalgate.stream.worker import Record

_BEATS = {"algorithm": detector.NAME, "algorithm_version": detector.VERSION}
_FEATURES = {"algorithm": ALGORITHM, "algorithm_version": ALGORITHM_VERSION}
GARBAGE: list[Any] = [
    {}, [], 5, None, "text", {"device": [{"odd": 1}]}, {"algorithm": _BEATS["algorithm"]},
    *(
        {**ours, **more}
        for ours in (_BEATS, _FEATURES)
        for more in (
            {}, {"beats": 5}, {"beats": [1]}, {"beats": [], "inputs": []}, {"window": "w"}, {"rate": "fast"},
            {"rate": "1/0", "beats": [{"sample": 1 << 63, "kind": "N"}], "revision": "newest"},
        )
    ),
]  # fmt: skip


def test_garbage_among_results_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [b"", b"\xff", b'{"n":', *map(orjson.dumps, GARBAGE)]
    read: list[str] = []

    async def chunks(_kafka: Any, topic: topics.Topic, partition: int, **_: Any) -> AsyncIterator[list[Record]]:
        read.append(topic.name)
        yield [Record(topic.name, partition, n, None, value, [], 1000 * n) for n, value in enumerate(values)]

    monkeypatch.setattr(lookback, "read", chunks)
    worker = analysis.Analysis.__new__(analysis.Analysis)
    worker.context = SimpleNamespace(settings=load(env={}, data="/nowhere").settings)  # type: ignore[assignment]
    worker.core, worker.partial = AnalysisCore(), {}
    asyncio.run(worker._read_back(0, len(values)))
    assert {topics.INPUTS.name, topics.BEATS.name, topics.FEATURES.name} == set(read)
    assert list(worker.core.jobs()) == []
