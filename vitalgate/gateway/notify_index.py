"""`v1/alerts/{team}/open`: which alerts of a team are open, for a broker whose retained messages answer to no wildcard.

RabbitMQ gives a retained message to a subscription that names its topic exactly, and to no other. So a screen
subscribes to `{patient}/{alert}` with wildcards for what comes, to `open` for what there is, and to each topic that
`open` lists for the message retained there. The list is how a notifier that was started again finds what it has
retained and must take away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import orjson
import paho.mqtt.client as mqtt

from vitalgate.config.settings import Settings
from vitalgate.config.topics import MQTT_ALERTS
from vitalgate.gateway.alert_board import Retained
from vitalgate.gateway.alert_topics import level
from vitalgate.gateway.notify_loop import Loop
from vitalgate.gateway.notify_teams import Teams
from vitalgate.gateway.publisher import Outgoing, Publisher
from vitalgate.gateway.rabbit_rights import decoded, encoded

log = logging.getLogger(__name__)

#: After a connection the lists from before come first, and are read before they are written anew.
SETTLE_S = 1.0
_LEAF = "open"


def index_topic(team: str) -> str:
    """Where a team's list is; `team` as a level of a topic."""
    return f"{MQTT_ALERTS}/{team}/{_LEAF}"


def by_team(names: Iterable[str]) -> dict[str, list[str]]:
    """Alert topics as `{patient}/{alert}`, by team."""
    found: dict[str, list[str]] = {}
    for name in names:
        _, _, team, rest = name.split("/", 3)
        found.setdefault(team, []).append(rest)
    return found


class OpenIndex(Loop):
    """Keeps the lists.

    Parameters
    ----------
    open_topics
        The topics of all open alerts.
    """

    def __init__(
        self, settings: Settings, teams: Teams, publisher: Publisher, open_topics: Callable[[], Sequence[str]],
        stop: threading.Event,
    ) -> None:  # fmt: skip
        super().__init__(settings, "index", stop)
        self._teams, self._publisher, self._open = teams, publisher, open_topics
        self._whole_at: float | None = None
        self.ready = True

    def filters(self) -> list[str]:
        """What to subscribe to at each connection: the list of every team, as it was left."""
        while not self._teams.ready and not self.stop.wait(0.05):
            pass
        teams = {level(team) for team in self._teams.all()} | by_team(self._open()).keys()
        return [index_topic(team) for team in sorted(teams)]

    def connected(self) -> None:
        """A connection has been made: all lists are written anew, a moment later."""
        self._whole_at = time.monotonic() + SETTLE_S

    def before(self, changes: Sequence[Retained]) -> list[Outgoing]:
        """What has to be said before these changes: a topic is listed before it holds a message."""
        new = {one.topic for one in changes if one.payload}
        return self._lists({*self._open(), *(one.topic for one in changes)}, by_team(new)) if new else []

    def after(self, changes: Sequence[Retained]) -> list[Outgoing]:
        """And after them: a topic is no more listed when it holds none."""
        gone = {one.topic for one in changes if not one.payload}
        return self._lists(self._open(), by_team(gone)) if gone else []

    def told(self, message: mqtt.MQTTMessage) -> None:
        """A list as it was left: what is on it and not open any more is taken away."""
        if not message.retain or not message.topic.endswith(f"/{_LEAF}") or not message.payload:
            return
        team = message.topic.split("/")[2]
        try:
            left = [str(one) for one in orjson.loads(message.payload)["alerts"]]
        except (ValueError, KeyError, TypeError):
            log.warning("a list of open alerts cannot be read", extra={"topic": message.topic})
            return
        there = set(self._open())
        stale = [name for one in left if (name := decoded(f"{MQTT_ALERTS}/{team}/{one}")) not in there]
        if stale:
            log.info("stale retained alerts removed", extra={"team": team, "count": len(stale)})
            self._publisher.publish([Outgoing(name, b"", retain=True) for name in stale])

    def run(self) -> None:
        """Write all lists after each connection, until told to stop."""
        while not self.stop.wait(0.1):
            due = self._whole_at
            if due is not None and time.monotonic() >= due and self._publisher.connected and self._teams.ready:
                self._whole_at = None
                names = set(self._open())
                self._publisher.publish(
                    self._lists(names, {*by_team(names), *(level(team) for team in self._teams.all())})
                )

    @staticmethod
    def _lists(names: Iterable[str], teams: Iterable[str]) -> list[Outgoing]:
        listed = {team: sorted(encoded(one) for one in rests) for team, rests in by_team(names).items()}
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [
            Outgoing(
                index_topic(team),
                orjson.dumps({"team": team, "time": now, "alerts": listed.get(team, [])}),
                retain=True,
            )
            for team in sorted(teams)
        ]
