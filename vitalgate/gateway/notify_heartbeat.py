"""`v1/alerts/{team}/heartbeat`: alive, up to what time, and how many alerts are open.

That the notifier lives is not enough for a screen. Ticks are records that the alert engine works through in their
order with everything else; the offsets that its group has committed say through which tick it has come.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.config.transport import kafka_options
from vitalgate.gateway.alert_topics import heartbeat_topic, level
from vitalgate.gateway.consume import position, usable
from vitalgate.gateway.notify_loop import Loop
from vitalgate.gateway.notify_teams import Teams
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.telemetry import metrics

log = logging.getLogger(__name__)

#: Ticks of each partition whose times are remembered.
_TICKS = 5000
_ANSWER_S = 2.0


def heartbeat(team: str, now_s: float, through_us: int | None, late_s: float, open_alerts: int) -> dict[str, Any]:
    """The message.

    Parameters
    ----------
    through_us
        Time through which the alert engine has worked; None when that is not known.
    late_s
        Behind by more than this, or not known: `state` is `late` in place of `ok`.
    """
    behind = None if through_us is None else max(0.0, round(now_s - through_us / 1e6, 3))
    return {
        "team": team,
        "time": _text(now_s),
        "state": "ok" if behind is not None and behind <= late_s else "late",
        "alerts_through": None if through_us is None else _text(through_us / 1e6),
        "behind_s": behind,
        "open": open_alerts,
    }


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Through:
    """The tick through which the alert engine's group has come; for one thread."""

    def __init__(self, settings: Settings, group: str) -> None:
        kafka = settings.kafka
        common = {**kafka_options(kafka), "enable.auto.commit": False, "log_level": 2}
        # Never subscribes, so that it is no member of the group: it only asks what has been committed.
        self._asker = Consumer({**common, "group.id": group})
        self._ticks = Consumer({**common, "group.id": f"{kafka.prefix}notifier.ticks", "auto.offset.reset": "latest"})
        self._topic = topics.full(topics.TICKS, kafka)
        self._times: dict[int, dict[int, int | None]] = {}

    def close(self) -> None:
        """Stop reading."""
        self._asker.close()
        self._ticks.close()

    def ask(self) -> int | None:
        """The time of that tick in microseconds, the least of all partitions; None when it is not known.

        Raises
        ------
        KafkaException
            When Kafka does not answer.
        """
        wait_s = 0.0
        if not self._times:
            self._begin()
            wait_s = 1.0
        while (message := self._ticks.poll(wait_s)) is not None:
            wait_s = 0.0
            if usable(message):
                _, partition, offset = position(message)
                times = self._times.setdefault(partition, {})
                times[offset] = _time_of(message.value())
                if len(times) > _TICKS:
                    del times[next(iter(times))]
        asked = [TopicPartition(self._topic, partition) for partition in self._times]
        found = self._asker.committed(asked, timeout=_ANSWER_S)
        through = [self._times[place.partition].get(place.offset - 1) for place in found]
        return None if not through or None in through else min(time for time in through if time is not None)

    def _begin(self) -> None:
        """From the last ticks on: the group may be a little behind."""
        description = self._ticks.list_topics(self._topic, timeout=_ANSWER_S).topics[self._topic]
        places = []
        for partition in description.partitions:
            place = TopicPartition(self._topic, partition)
            low, high = self._ticks.get_watermark_offsets(place, timeout=_ANSWER_S, cached=False)
            places.append(TopicPartition(self._topic, partition, max(low, high - _TICKS // 10)))
        self._ticks.assign(places)
        self._times = {place.partition: {} for place in places}


class Heartbeat(Loop):
    """One message to each team, each `alerting.heartbeat_s`; none while the broker is away."""

    def __init__(
        self, settings: Settings, group: str, teams: Teams, open_alerts: Callable[[], dict[str, int]],
        publisher: Publisher, stop: threading.Event,
    ) -> None:  # fmt: skip
        super().__init__(settings, "heartbeat", stop)
        self._settings, self._group = settings, group
        self._teams, self._open, self._publisher = teams, open_alerts, publisher
        self._interval = settings.alerting.heartbeat_s
        self._late_s = max(10.0, 5 * settings.alerting.tick_s)
        self.ready = True

    def run(self) -> None:
        """Beat until told to stop."""
        through = Through(self._settings, self._group)
        try:
            while not self.stop.wait(self._interval):
                known = None
                try:
                    known = through.ask()
                except (KafkaException, KeyError, ValueError) as error:
                    log.warning("how far the alert engine has come is not known", extra={"detail": str(error)})
                if self._publisher.connected and self._teams.ready:
                    self._beat(known)
        finally:
            through.close()

    def _beat(self, known: int | None) -> None:
        counts, now = self._open(), time.time()
        beats = [
            Outgoing(
                heartbeat_topic(team),
                orjson.dumps(heartbeat(team, now, known, self._late_s, counts.get(level(team), 0))),
            )
            for team in sorted(self._teams.all())
        ]
        if len(beats) < self._publisher.room():
            self._publisher.publish(beats)
            metrics.HEARTBEATS.inc(len(beats))


def _time_of(value: str | bytes | None) -> int | None:
    """The time that a tick carries; None for a record that is no tick."""
    try:
        document = orjson.loads(value or b"{}")
    except ValueError:
        return None
    time_us = document.get("time_us") if isinstance(document, dict) else None
    return time_us if isinstance(time_us, int) else None
