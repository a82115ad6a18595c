"""Does PUBACK mean kept? Plain QoS 1 devices without outbox, and `kill -9` of broker and gateways at random.

`python -m benchmarks.broker_kill --broker rabbitmq --rounds 12`

A device keeps a message until its PUBACK, sends what has none again after a reconnect, and forgets it then: what any
MQTT client does. Lost is what was acknowledged and is nowhere in Kafka's `device.raw`, read by a consumer of its own.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import paho.mqtt.client as mqtt
from confluent_kafka import Consumer, TopicPartition
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.config import topics
from vitalgate.config.loading import read_secret
from vitalgate.config.settings import Settings
from vitalgate.gateway.access import Credential, open_access
from vitalgate.local import control
from vitalgate.local.stack import Stack

#: Messages of a device under way without PUBACK.
WINDOW = 50
#: What is done to the system in a round, in turn; then all of it again. `broker` stands for its process.
FAULTS: tuple[tuple[str, ...], ...] = (("broker",), ("gateway", "broker"), ("gateway", "gateway-1"), ("gateway-1",))
_PAYLOAD = "x" * 150


@dataclass
class Outcome:
    """What came of it."""

    broker: str
    seed: int
    rounds: int
    sent: int = 0
    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    """Records of `device.raw` that repeat one; intake takes them for duplicates."""
    kills: dict[str, int] = field(default_factory=dict)
    back_s: list[float] = field(default_factory=list)
    """From each kill of the broker to the next PUBACK."""
    puback_ms: dict[str, float] = field(default_factory=dict)
    """p50 and p99 before the first kill."""


class Plain(threading.Thread):
    """A device that knows nothing of receipts."""

    def __init__(self, settings: Settings, name: str, password: str, rate: float) -> None:
        super().__init__(name=name, daemon=True)
        self.acked: set[int] = set()
        self.sent = 0
        self.last_ack = 0.0
        self.waits_ms: list[float] = []
        self.sending = True
        self._settings, self._password, self._pause = settings, password, 1 / rate
        self._again: deque[int] = deque()
        self._ending = threading.Event()

    def run(self) -> None:
        """Connection after connection, until told to end."""
        while not self._ending.is_set():
            try:
                self._connection()
            except OSError:
                self._ending.wait(0.2)

    def end(self) -> None:
        """Stop at once."""
        self._ending.set()
        self.join(5)

    @property
    def done(self) -> bool:
        """Whether all that was sent is acknowledged."""
        return not self.sending and len(self.acked) == self.sent

    def _connection(self) -> None:
        """One connection, to its end."""
        way: dict[int, tuple[int, float]] = {}
        up, gone = threading.Event(), threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{self.name}:k", reconnect_on_failure=False)
        client.username_pw_set(self.name, self._password)
        client.max_inflight_messages_set(0)
        client.on_connect = lambda _c, _d, _f, reason, _p: None if reason.is_failure else up.set()
        client.on_disconnect = lambda *_: gone.set()

        def acknowledged(_client: Any, _data: Any, mid: int, *_rest: Any) -> None:
            n, at = way.pop(mid)
            self.acked.add(n)
            self.last_ack = time.monotonic()
            self.waits_ms.append((self.last_ack - at) * 1000)

        client.on_publish = acknowledged
        client.connect(self._settings.mqtt.host, self._settings.mqtt.port, keepalive=10)
        try:
            while not gone.is_set() and not self._ending.is_set():
                client.loop(0.005)
                if not up.is_set():
                    continue
                due = time.monotonic() >= getattr(self, "_next", 0.0)
                if len(way) < WINDOW and (self._again or (self.sending and due)):
                    if self._again:
                        n = self._again.popleft()
                    else:
                        n, self.sent = self.sent, self.sent + 1
                        self._next = time.monotonic() + self._pause
                    body = json.dumps({"device": self.name, "n": n, "filling": _PAYLOAD})
                    info = client.publish(topics.device_topic(self.name, "readings"), body, qos=1)
                    way[info.mid] = n, time.monotonic()
        finally:
            client._sock_close()
            self._again.extendleft(sorted((n for n, _ in way.values()), reverse=True))


@contextlib.contextmanager
def system(broker: str, data: Path) -> Iterator[Stack]:
    """The broker, Kafka and two gateways."""
    settings = {"mqtt.broker": broker, "local.copies": "gateway=2", "local.ready_timeout_s": "120"}
    stack = Stack(data, settings, {"mqtt", "kafka", "gateway"})
    stack.start()
    try:
        yield stack
    finally:
        stack.stop(remove=True)


def run(
    stack: Stack, rounds: int, *, seed: int = 1, devices: int = 8, rate: float = 300.0,
    say: Callable[[str], None] = lambda _text: None,
) -> Outcome:  # fmt: skip
    """Do harm to a `system`, and reckon."""
    chance = random.Random(seed)  # noqa: S311  no secret
    found = stack.settings.settings
    broker = found.mqtt.broker
    outcome = Outcome(broker, seed, rounds)
    fleet = _fleet(found, devices, rate)
    try:
        _until(lambda: all(len(one.acked) > 5 for one in fleet), 60, "the first acknowledgements")
        time.sleep(3.0)
        outcome.puback_ms = _quantiles([wait for one in fleet for wait in one.waits_ms[5:]])
        kills: Counter[str] = Counter()
        for number in range(rounds):
            for name in FAULTS[number % len(FAULTS)]:
                time.sleep(chance.uniform(0.2, 1.2))
                process = broker if name == "broker" else name
                before = time.monotonic()
                control.kill_process(stack.data, process)
                kills[process.partition("-")[0]] += 1
                if name == "broker":
                    _until(lambda at=before: max(one.last_ack for one in fleet) > at + 0.1, 120, "a PUBACK again")
                    outcome.back_s.append(round(time.monotonic() - before, 2))
            time.sleep(chance.uniform(0.3, 1.5))
            say(f"round {number + 1}: {sum(len(one.acked) for one in fleet)} acknowledged")
        outcome.kills = dict(kills)
        for one in fleet:
            one.sending = False
        _until(lambda: all(one.done for one in fleet), 120, "all acknowledgements")
        outcome.sent = sum(one.sent for one in fleet)
        outcome.acknowledged = sum(len(one.acked) for one in fleet)
        wanted = {(one.name, n) for one in fleet for n in one.acked}
        there = _arrived(found, wanted)
        outcome.lost = len(wanted - there.keys())
        outcome.twice = sum(there.values()) - len(there)
    finally:
        for one in fleet:
            one.end()
    return outcome


def _fleet(found: Settings, devices: int, rate: float) -> list[Plain]:
    admin = read_secret(found.mqtt.admin_password_file, "administrator's password")
    with open_access(found.mqtt, admin, name="kill") as access:
        access.prepare()
        made = [Credential(f"plain{n}", f"secret {n}", access.hash_password(f"secret {n}")) for n in range(devices)]
        if refused := access.admit(made):
            raise RuntimeError(refused[0])
    fleet = [Plain(found, one.user, one.password, rate / devices) for one in made]
    for device in fleet:
        device.start()
    return fleet


def _arrived(found: Settings, wanted: set[tuple[str, int]], quiet_s: float = 10.0) -> Counter[tuple[str, int]]:
    """What is in `device.raw`, once all is there or nothing has come for a while."""
    there: Counter[tuple[str, int]] = Counter()
    source = Consumer({"bootstrap.servers": found.kafka.bootstrap, "group.id": "kill", "log_level": 2})
    try:
        name = topics.full(topics.RAW, found.kafka)
        parts = source.list_topics(name, timeout=30).topics[name].partitions
        source.assign([TopicPartition(name, part, 0) for part in parts])
        last = time.monotonic()
        while time.monotonic() - last < (2.0 if wanted <= there.keys() else quiet_s):
            for message in source.consume(1000, 0.5):
                if message.error() is None:
                    document = json.loads(message.value() or b"{}")
                    there[document["device"], document["n"]] += 1
                    last = time.monotonic()
        return there
    finally:
        source.close()


def _until(met: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not met():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {name: round(ordered[int(len(ordered) * share)], 1) for name, share in (("p50", 0.5), ("p99", 0.99))}


@click.command()
@click.option("--broker", type=click.Choice(["mosquitto", "rabbitmq"]), default="rabbitmq", show_default=True)
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1, 1000), help="Faults, one after another.")
@click.option("--rate", default=300.0, show_default=True, help="Messages a second, of all devices together.")
@click.option("--devices", default=8, show_default=True, type=click.IntRange(1, 200))
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(broker: str, rounds: int, rate: float, devices: int, seed: int, as_json: bool) -> None:
    """Kill broker and gateways under plain QoS 1 traffic and count what was acknowledged and lost."""
    say = (lambda _text: None) if as_json else lambda text: click.echo(text, err=True)
    with tempfile.TemporaryDirectory(prefix="vg-kill-") as folder, system(broker, Path(folder) / "data") as stack:
        found = run(stack, rounds, seed=seed, devices=devices, rate=rate, say=say)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    killed = ", ".join(f"{name} {count} times" for name, count in found.kills.items())
    click.echo(
        f"{found.broker}: {found.acknowledged:,} acknowledged, lost {found.lost:,}, twice in Kafka {found.twice:,}"
    )
    click.echo(f"killed: {killed}; PUBACK again after {min(found.back_s)} to {max(found.back_s)} s")
    click.echo(f"PUBACK p50 {found.puback_ms['p50']} ms, p99 {found.puback_ms['p99']} ms before the first kill")
    sys.exit(1 if found.lost and found.broker == "rabbitmq" else 0)


if __name__ == "__main__":
    main()
