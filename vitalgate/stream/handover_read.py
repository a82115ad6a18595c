"""Reading deliveries for people, from Kafka: what stands, and every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.stream.alerting_read import Reader


def steps(kafka: KafkaSettings, keep: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Records of alert.deliveries that Kafka still holds, each once, oldest first. Raises NoAnswerError."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    reader = Reader(kafka, topics.ALERT_DELIVERIES)
    try:
        for _, value in reader.whole():
            one = orjson.loads(value or b"null")
            if one and keep(one):
                found.setdefault((one["delivery_id"], one["number"]), one)
    finally:
        reader.close()
    return sorted(found.values(), key=lambda one: (one["at"], one["delivery_id"], one["number"]))


def latest(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each delivery once, by its last step; oldest first."""
    last: dict[str, dict[str, Any]] = {}
    for one in found:
        if one["number"] >= last.get(one["delivery_id"], one)["number"]:
            last[one["delivery_id"]] = one
    return sorted(last.values(), key=lambda one: (one["created_at"], one["delivery_id"]))
