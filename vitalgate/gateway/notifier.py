"""Kafka to MQTT: receipts to devices, alerts to care teams; and what these say of alerts to Kafka.

Independent loops, so that none delays another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from vitalgate.config import topics
from vitalgate.config.settings import Settings
from vitalgate.gateway.notify_alerts import AlertEvents, OpenAlerts
from vitalgate.gateway.notify_commands import Answers, Commands
from vitalgate.gateway.notify_heartbeat import Heartbeat
from vitalgate.gateway.notify_index import OpenIndex
from vitalgate.gateway.notify_loop import Loop, NotifierFailed, address
from vitalgate.gateway.notify_receipts import Receipts
from vitalgate.gateway.notify_teams import Teams
from vitalgate.gateway.publisher import Publisher
from vitalgate.telemetry import metrics
from vitalgate.telemetry.health import Health

log = logging.getLogger(__name__)


class Notifier:
    """All loops of the notifier process.

    Parameters
    ----------
    alerting_group
        Kafka consumer group of the alerting worker; how far it has come is part of the heartbeat.
    """

    def __init__(self, settings: Settings, password: str, alerting_group: str, *, health: Health | None = None) -> None:
        self._stop = threading.Event()
        self._receipts = Receipts(settings, password, self._stop)
        self._publisher = Publisher(
            address(settings, password, "alerts"),
            filters=lambda: self._index.filters() if self._index else [f"{topics.MQTT_ALERTS}/+/+/+"],
            on_connect=self._connected,
            on_message=lambda message: (self._index.told if self._index else self._open.remove_stale)(message),
        )
        self._open = OpenAlerts(settings, self._publisher, self._stop)
        self._events = AlertEvents(settings, self._publisher, self._stop)
        teams = Teams(settings, self._stop)
        self._index: OpenIndex | None = None
        if settings.mqtt.broker == "rabbitmq":
            self._index = OpenIndex(settings, teams, self._publisher, self._open.topics, self._stop)
            self._open.index = self._index
        answers = Answers(settings, self._publisher, self._stop)
        commands = Commands(settings, password, teams, answers, self._publisher, self._stop)
        beats = Heartbeat(settings, alerting_group, teams, self._open.count, self._publisher, self._stop)
        self._loops: list[Loop] = [self._receipts, self._open, self._events, teams, answers, commands, beats]
        if self._index is not None:
            self._loops.append(self._index)
        self._errors: list[str] = []
        if health is not None:
            health.ready["mqtt"] = self._mqtt
            for loop in self._loops:
                health.ready[loop.part] = self._not_ready(loop)
            health.alive["loops"] = lambda: "; ".join(self._errors) or None

    def _connected(self) -> None:
        self._open.assert_all()
        if self._index is not None:
            self._index.connected()

    def _mqtt(self) -> str | None:
        return None if self._publisher.connected else "not connected to the broker"

    @staticmethod
    def _not_ready(loop: Loop) -> Callable[[], str | None]:
        return lambda: None if loop.ready else f"{loop.part}: {loop.waits_for}"

    def stop(self) -> None:
        """Ask `run` to drain and return."""
        self._stop.set()

    def run(self) -> None:
        """Run until `stop()`.

        Raises
        ------
        NotifierFailed
            When a loop ended by itself.
        """

        def guarded(loop: Loop) -> None:
            try:
                loop.run()
            except Exception as error:
                log.exception("a loop of the notifier ended", extra={"loop": loop.part})
                self._errors.append(f"{loop.part}: {error}")
                self._stop.set()

        threads = [threading.Thread(target=guarded, args=(loop,), name=loop.part) for loop in self._loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
                metrics.MQTT_CONNECTED.set(self._publisher.connected)
        self._publisher.close()
        if self._errors:
            raise NotifierFailed("; ".join(self._errors))
