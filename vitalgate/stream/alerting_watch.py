"""The live table of `vitalgate alerts watch`: follows the state topic, draws with rich, obeys keys."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vitalgate.alerts.board import Board
from vitalgate.config import topics
from vitalgate.config.settings import KafkaSettings
from vitalgate.devices.records import decode_input
from vitalgate.stream.alerting_ask import ask
from vitalgate.stream.alerting_read import NoAnswerError, Reader

#: IEC 60601-1-8 colours of priorities.
COLOURS = {"high": "bold white on red", "medium": "black on yellow", "low": "black on cyan"}
SILENCE = timedelta(minutes=15)
_TREND_S = 15 * 60
_FRAME_S = 0.25
KEYS = "j/k or arrows select, a acknowledge, s silence 15 min, q quit"


class Watch:
    """Board, readers and keys."""

    def __init__(self, kafka: KafkaSettings, who: str, team: str | None) -> None:
        self._kafka = kafka
        self._who = who
        self._team = team
        self.board = Board()
        self.said = KEYS
        since = round((time.time() - _TREND_S) * 1000)
        self._state = Reader(kafka, topics.ALERT_STATE)
        self._inputs = Reader(kafka, topics.INPUTS, since_ms=since)
        self._features = Reader(kafka, topics.FEATURES, since_ms=since)

    def close(self) -> None:
        """Stop reading."""
        for reader in (self._state, self._inputs, self._features):
            reader.close()

    def refresh(self, timeout_s: float = 0.02) -> None:
        """Take what has come."""
        for key, value in self._state.poll(timeout_s):
            alert = None if value is None else orjson.loads(value)
            if alert is None or self._team in (None, alert["team"]):
                self.board.take(key.decode(), alert)
        for _, value in self._inputs.poll(0):
            self._measured(value or b"")
        for _, value in self._features.poll(0):
            feature = orjson.loads(value or b"{}")
            if feature.get("value") is not None and not feature.get("withdrawn"):
                at = datetime.fromisoformat(feature["end"]).timestamp()
                self.board.measured(feature["patient"], feature["name"], round(at * 1e6), feature["value"])

    def _measured(self, value: bytes) -> None:
        try:
            record = decode_input(value)
        except msgspec.DecodeError:
            return
        for reading in record.message.readings:
            if reading.value_num is not None:
                self.board.measured(record.patient, reading.metric, reading.time_us, reading.value_num)

    def obey(self, key: str) -> bool:
        """Do what a key says; False for quit."""
        if key in ("q", "\x03"):
            return False
        if key in ("j", "\x1b[B"):
            self.board.move(1)
        elif key in ("k", "\x1b[A"):
            self.board.move(-1)
        elif key in ("a", "s"):
            alert = self.board.alerts.get(self.board.selected)
            if alert is not None:
                self._do(alert, "acknowledge" if key == "a" else "silence")
        return True

    def _do(self, alert: dict[str, Any], action: str) -> None:
        more: dict[str, Any] = {}
        if action == "silence":
            more = {"until": datetime.now(UTC) + SILENCE, "reason": "silenced at the live table"}
        try:
            reply = ask(self._kafka, alert, action, self._who, wait_s=5.0, **more)
        except (NoAnswerError, ValueError) as error:
            self.said = str(error)
            return
        self.said = f"{alert['title']} of {alert['patient']}: {reply.detail or f'{action}d'.replace('eed', 'ed')}"

    def drawn(self) -> Group:
        """The table."""
        table = Table(expand=True, box=None, header_style="bold")
        for name in ("priority", "age", "patient", "alert", "value", "trend", "state"):
            table.add_column(name, no_wrap=name != "state", overflow="ellipsis")
        text = ""
        for row in self.board.rows(time.time_ns() // 1000):
            chosen = row["id"] == self.board.selected
            text = row["text"] if chosen else text
            table.add_row(
                Text(f" {row['priority']} ", COLOURS.get(row["priority"], "")), row["age"], row["patient"],
                row["title"], row["value"], row["trend"], row["state"], style="reverse" if chosen else "",
            )  # fmt: skip
        count = f"{len(self.board.alerts)} alerts, {datetime.now(UTC):%H:%M:%S} UTC"
        return Group(Text(count, "bold"), table, Text(text), Text(self.said, "dim"))


def run(kafka: KafkaSettings, who: str, team: str | None, stop: Callable[[], bool] = lambda: False) -> None:
    """Show the table until `q` is pressed. Raises NoAnswerError when Kafka does not answer."""
    watch = Watch(kafka, who, team)
    try:
        with _keys() as keys, Live(console=Console(), screen=True, auto_refresh=False) as live:
            while not stop():
                watch.refresh()
                live.update(watch.drawn(), refresh=True)
                for key in keys(_FRAME_S):
                    if not watch.obey(key):
                        return
    finally:
        watch.close()


def _no_keys(wait: float) -> list[str]:
    time.sleep(wait)
    return []


@contextmanager
def _keys() -> Iterator[Callable[[float], list[str]]]:
    """Keys one by one, without Enter; none when there is no terminal."""
    if not sys.stdin.isatty():
        yield _no_keys
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)

    def read(wait: float) -> list[str]:
        if not select.select([number], [], [], wait)[0]:
            return []
        text = os.read(number, 64).decode("utf-8", "replace")
        return [text] if text.startswith("\x1b") else list(text)

    try:
        yield read
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
