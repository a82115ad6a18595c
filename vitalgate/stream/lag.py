"""How far a worker is behind the end of its partitions, as a metric."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from faust.types import TP

from vitalgate.stream.acks import Acker
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

EVERY_S = 2.0


async def report_lag(app: Any, worker: str, names: Mapping[str, str], acker: Acker) -> None:
    """Set the gauge of every assigned partition, for ever.

    Parameters
    ----------
    names
        Base name of each topic by its full name.
    """
    seen: set[TP] = set()
    while True:
        await asyncio.sleep(EVERY_S)
        consumer = app.consumer
        try:
            partitions = set(consumer.assignment())
            ends = await consumer.highwaters(*partitions) if partitions else {}
            for tp in seen - partitions:
                metrics.WORKER_LAG.remove(worker, names[tp.topic], str(tp.partition))
            seen = partitions
            for tp in partitions:
                name = names[tp.topic]
                at = acker.next(name, tp.partition)
                if at is None:
                    at = await consumer.position(tp)
                lag = max(0, ends.get(tp, 0) - (at or 0))
                metrics.WORKER_LAG.labels(worker, name, str(tp.partition)).set(lag)
        except Exception as error:
            log.debug("lag unknown", extra={"error": repr(error)})
