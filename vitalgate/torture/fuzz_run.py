"""Sends fuzzed payloads through a running system, and finds each again: as rows, as a repeat, or as a dead letter."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.config import topics
from vitalgate.config.settings import MqttSettings, Settings
from vitalgate.devices.decode import decode
from vitalgate.devices.identity import payload_hash
from vitalgate.devices.reasons import Reason, Refused
from vitalgate.devices.records import decode_batch
from vitalgate.local import control
from vitalgate.storage.connect import connect
from vitalgate.torture.fuzz_found import Place, Ranges, dead_letters, places, stored
from vitalgate.torture.fuzz_payloads import Fuzz, Sent

KEPT_OF_OVERSIZE = 65_536
"""The gateway keeps the beginning of what is too large; the dead letter bears its hash."""
#: Growth of one process over the second half of a run that counts as a leak, MiB: buffers fill in the first half.
LEAK_MB = 48
#: Where no device may publish; the broker acknowledges each, drops it, and says so in its log.
TRICKS = (
    "v1/devices/somebody-else/readings", "v1/devices//readings", "v1/devices/+/readings/x", "$SYS/broker/uptime",
    "v1/alerts/care/p/a", "v1/alerts/care/heartbeat", "$share/vitalgate/v1/devices/x/readings", "/", "v1",
    "$CONTROL/dynamic-security/v1", "v1/devices/" + "x" * 60_000 + "/readings", "\u202ev1/devices",
)  # fmt: skip
Say = Callable[[str], None]


@dataclass
class Verdict:
    """What was sent, and what there is of it."""

    count: int
    parsed: int
    """Payloads that are JSON or CBOR at all."""
    stored: int = 0
    dead: int = 0
    nowhere: list[str] = field(default_factory=list)
    """How, device, leaf and beginning of payloads that were not found again."""
    harmed: list[str] = field(default_factory=list)
    """Messages of devices that do nothing wrong, and yet were refused or not stored."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Payloads by reason."""
    restarted: list[str] = field(default_factory=list)
    set_aside: int = 0
    tricks: int = 0
    """Publishes to topics where no device may publish."""
    giants: int = 0
    """Payloads of ten megabytes, larger than the broker takes."""
    cut_off: int = 0
    """Connections that it cut for one of these."""
    refused: int = 0
    """Those that the broker's log tells of."""
    grew_mb: dict[str, float] = field(default_factory=dict)
    """Growth of each process in the second half of the run."""
    seconds: float = 0.0

    def faults(self) -> list[str]:
        """What is not as it must be, in words."""
        found = [f"nowhere: {one}" for one in self.nowhere[:20]] + [f"harmed: {one}" for one in self.harmed[:20]]
        least = min(20, self.count * 20 // 100_000)
        for reason in Reason:
            seen = self.reasons.get(reason.value, 0)
            if reason.by_device and seen < max(1, least):
                found.append(f"reason {reason.value} was hit {seen} times, not {max(1, least)}")
            if not reason.by_device and seen:
                found.append(f"{seen} payloads got the reason {reason.value}, which no device can cause")
        if self.parsed < 0.6 * self.count:
            found.append(f"only {self.parsed} of {self.count} payloads parse")
        found += [f"{name} was started again" for name in self.restarted]
        if self.set_aside:
            found.append(f"{self.set_aside} records were set aside")
        if self.refused < self.tricks:
            found.append(f"the broker's log tells of {self.refused} of {self.tricks} refused publishes")
        if self.cut_off < self.giants:
            found.append(f"the broker took {self.giants - self.cut_off} payloads of ten megabytes")
        grown = [(name, mb) for name, mb in self.grew_mb.items() if mb > LEAK_MB]
        return found + [f"{name} grew by {mb:.0f} MiB in the second half" for name, mb in grown]

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {**vars(self), "faults": self.faults(), "good": not self.faults()}


def run(
    data: Path, settings: Settings, passwords: Mapping[str, str], fuzz: Fuzz, count: int, *, say: Say = lambda _: None,
    patience_s: float = 150.0,
) -> Verdict:  # fmt: skip
    """Send `count` payloads and find them again.

    Parameters
    ----------
    passwords
        Of every device of the fuzz.
    patience_s
        How long to wait for anything that must come.

    Raises
    ------
    TimeoutError
        When something does not come in that time: then the system stands still.
    """
    began = time.monotonic()
    verdict = Verdict(0, 0)
    sent: list[tuple[str, str, str, bytes, bytes]] = []
    sizes: list[dict[str, float]] = []
    with Ranges(settings.kafka) as log, connect(settings.database, "fuzz", autocommit=True) as connection:
        raw_from, aside_from = log.ends(topics.RAW), log.ends(topics.SETASIDE)
        validated_from = log.ends(topics.VALIDATED)
        before, refused_before = _processes(data), _refused(data)
        with Senders(settings, passwords) as senders:
            for half in (count // 2, count - count // 2):
                for one in itertools.islice(fuzz.messages(half), half):
                    verdict.parsed += _parses(one.payload)
                    kept = one.payload if len(one.payload) < 1_000_000 else one.payload[:KEPT_OF_OVERSIZE]
                    sent.append((one.how, one.device, one.leaf, payload_hash(kept), one.payload[:120]))
                    senders.publish(one)
                senders.drain(patience_s)
                verdict.tricks += senders.tricks()
                verdict.giants += 2
                verdict.cut_off += sum(senders.giant() for _ in range(2))
                _until(functools.partial(_arrived, log, raw_from, len(sent)), f"{len(sent)} raw records", patience_s)
                _until(lambda: log.applied(connection), "the recorder has applied every raw record", patience_s)
                say(f"{len(sent):,} payloads are through after {time.monotonic() - began:.0f} s")
                sizes.append(_sizes(data))
        verdict.grew_mb = {name: round(mb - sizes[0].get(name, mb), 1) for name, mb in sizes[-1].items()}
        _until(lambda: log.behind(data) == 0, "every worker has read to the end", patience_s)
        verdict.count = len(sent)
        raw: dict[bytes, list[Place]] = defaultdict(list)
        for record in log.read(topics.RAW, raw_from):
            if (record.key() or b"").decode("utf-8", "replace") in passwords:
                raw[payload_hash(record.value())].append((record.partition(), record.offset()))
        rows = places(connection, passwords)
        dead = dead_letters(connection, passwords)
        others = {place for found in raw.values() for place in found} - rows
        repeated: set[Place] = set()
        for record in log.read(topics.VALIDATED, validated_from):
            batch = decode_batch(record.value())
            for message in batch.messages:
                place = (batch.partition, message.offset)
                if place in others and message.items() and all(stored(connection, message)):
                    repeated.add(place)
        verdict.set_aside = sum(log.ends(topics.SETASIDE).values()) - sum(aside_from.values())
    _judge(verdict, sent, raw, rows | repeated, dead)
    after = _processes(data)
    verdict.restarted = [name for name, was in before.items() if after.get(name) != was]
    verdict.refused = _refused(data) - refused_before
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


def _judge(
    verdict: Verdict, sent: Iterable[tuple[str, str, str, bytes, bytes]], raw: Mapping[bytes, list[Place]],
    kept: set[Place], dead: Mapping[bytes, set[str]],
) -> None:  # fmt: skip
    reasons: dict[str, int] = defaultdict(int)
    for how, device, leaf, digest, beginning in sent:
        is_kept = any(place in kept for place in raw.get(digest, ()))
        is_dead = digest in dead
        verdict.stored += is_kept
        verdict.dead += is_dead
        for reason in dead.get(digest, ()):
            reasons[reason] += 1
        if not is_kept and not is_dead:
            verdict.nowhere.append(f"{how} {device}/{leaf} {beginning!r} in {raw.get(digest)}")
        if how == "clean" and (is_dead or not is_kept):
            verdict.harmed.append(f"{device}/{leaf} {beginning!r} {sorted(dead.get(digest, ()))}")
    verdict.reasons = dict(sorted(reasons.items()))


class Senders:
    """A connection for each device; messages go out at QoS 1."""

    def __init__(self, settings: Settings, passwords: Mapping[str, str]) -> None:
        self._mqtt = settings.mqtt
        self._passwords = passwords
        self._clients: dict[str, mqtt.Client] = {}
        self._acked = itertools.count(1)
        self._reached = 0
        self._sent = 0
        self._room = threading.Condition()

    def __enter__(self) -> Senders:
        for device, password in self._passwords.items():
            client = mqtt.Client(CallbackAPIVersion.VERSION2, device)
            client.username_pw_set(device, password)
            client.max_inflight_messages_set(100)
            client.on_publish = self._count
            client.connect(self._mqtt.host, self._mqtt.port, keepalive=300)
            client.loop_start()
            self._clients[device] = client
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()

    def _count(self, *_: object) -> None:
        with self._room:
            self._reached = next(self._acked)
            self._room.notify_all()

    def publish(self, one: Sent) -> None:
        """Send one message; waits while 2,000 are under way. Raises TimeoutError when the broker stands still."""
        with self._room:
            if not self._room.wait_for(lambda: self._sent - self._reached < 2000, 60):
                raise TimeoutError(f"the broker stands: it has acknowledged {self._reached} of {self._sent} messages")
        self._sent += 1
        self._clients[one.device].publish(topics.device_topic(one.device, one.leaf), one.payload, qos=1)

    def drain(self, patience_s: float) -> None:
        """Wait until the broker has acknowledged all. Raises TimeoutError."""
        with self._room:
            if not self._room.wait_for(lambda: self._reached >= self._sent, patience_s):
                raise TimeoutError(f"the broker has acknowledged {self._reached} of {self._sent} messages")

    def giant(self) -> bool:
        """Send ten megabytes; whether the broker cut the connection for it."""
        device, password = next(iter(self._passwords.items()))
        return _giant(self._mqtt, device, password)

    def tricks(self) -> int:
        """Publish where no device may; how many."""
        count = 0
        for client in self._clients.values():
            for topic in TRICKS:
                try:
                    client.publish(topic, b"{}", qos=1)
                except ValueError:  # paho itself refuses wildcards
                    continue
                count += 1
                self._sent += 1
        return count


def _giant(broker: MqttSettings, device: str, password: str) -> bool:
    """Whether the broker cuts a device off that sends ten megabytes; on a connection of its own."""
    cut = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, f"{device}-giant")
    client.username_pw_set(device, password)

    def send(*_: object) -> None:
        client.publish(topics.device_topic(device, "readings"), b"x" * 10_000_000, qos=1)

    client.on_connect = send
    client.on_disconnect = lambda *_: cut.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        return cut.wait(20)
    finally:
        client.loop_stop()
        client.disconnect()


def _arrived(log: Ranges, start: Mapping[int, int], wanted: int) -> bool:
    return sum(log.ends(topics.RAW).values()) - sum(start.values()) >= wanted


def _parses(payload: bytes) -> bool:
    try:
        decode(payload)
    except Refused:
        return False
    return True


def _until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)


def _processes(data: Path) -> dict[str, tuple[int, int]]:
    """Process id and number of restarts by name."""
    return {entry["name"]: (entry["pid"], entry["restarts"]) for entry in control.status(data)["processes"]}


def _refused(data: Path) -> int:
    return int(control.status(data)["health"].get("mqtt", {}).get("refused", 0))


def _sizes(data: Path) -> dict[str, float]:
    """Resident memory of our processes, MiB; the servers' caches grow as they are told to."""
    found = {}
    for entry in control.status(data)["processes"]:
        if entry["name"].split("-")[0] not in ("kafka", "postgres", "mosquitto", "rabbitmq") and entry["pid"]:
            found[entry["name"]] = psutil.Process(entry["pid"]).memory_info().rss / 1_048_576
    return found
