"""Which alert topics must hold a retained message. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import orjson

from vitalgate.gateway.alert_topics import alert_topic


class Retained(NamedTuple):
    """A retained message to set, or to remove when the payload is empty."""

    topic: str
    payload: bytes


class AlertBoard:
    """The open alerts, by their key on the compacted state topic."""

    def __init__(self) -> None:
        self._open: dict[bytes, Retained] = {}
        self._topics: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._open)

    def apply(self, key: bytes, value: bytes | None) -> list[Retained]:
        """What a record of the state topic changes at the broker.

        Raises
        ------
        ValueError
            When the value is not an alert; the board is unchanged then.
        """
        before = self._open.get(key)
        if not value:
            if before is None:
                return []
            del self._open[key]
            self._topics.pop(before.topic, None)
            return [Retained(before.topic, b"")]
        try:
            now = Retained(alert_topic(orjson.loads(value)), value)
        except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
            raise ValueError(f"not an alert: {error!r}") from error
        self._open[key] = now
        self._topics[now.topic] = key
        if before is not None and before.topic != now.topic:  # the patient's team changed
            self._topics.pop(before.topic, None)
            return [Retained(before.topic, b""), now]
        return [now]

    def all(self) -> list[Retained]:
        """Every retained message that must be there: sent again after a restart of ours or of the broker."""
        return list(self._open.values())

    def topics(self) -> list[str]:
        """The topics of all open alerts."""
        return list(self._topics)

    def count(self) -> dict[str, int]:
        """How many alerts are open in each team that has any, by the team's level of the topic."""
        return dict(Counter(topic.split("/")[2] for topic in self._topics))

    def is_open(self, topic: str) -> bool:
        """Whether this topic belongs to an open alert; a retained message anywhere else is stale."""
        return topic in self._topics
