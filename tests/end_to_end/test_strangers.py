"""Somebody writes to our Kafka topics, or abuses MQTT: no process ends, nothing is wedged, good data flows."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import paho.mqtt.client as mqtt
import psycopg
import pytest
from confluent_kafka import KafkaError, Message, Producer
from paho.mqtt.enums import CallbackAPIVersion

from vitalgate.config import topics
from vitalgate.config.transport import kafka_options
from vitalgate.local import control
from vitalgate.local.errors import PartError
from vitalgate.local.stack import Stack
from vitalgate.stream.workers import WORKERS
from vitalgate.testing.deployment import Deployment
from vitalgate.testing.device import TestedDevice

pytestmark = pytest.mark.timeout(300)
OURS = (*WORKERS, "registrar", "notifier", "gateway")
PARTS = ("mqtt", "kafka", "postgres")
#: Every field that some record of ours has, of the wrong type.
FIELDS = [
    "device", "device_id", "patient", "kind", "state", "change", "assignments", "zones", "team", "teams",
    "overrides", "time", "time_us", "n", "hash", "inbox_offset", "previous_hash", "checkpoint", "revision", "block",
    "beats", "readings", "name", "start", "end", "window", "event_id", "alert_id", "rule", "onset", "who",
    "command_id", "at", "epoch", "base", "reason", "raw",
]  # fmt: skip
WRONG = {field: [{"odd": [None, 1e308, "\u0000"]}] for field in FIELDS}
GARBAGE: tuple[bytes | None, ...] = (
    None, b"", b"\xff\xfe\x00", b"null", b"5", b'"text"', b"[]", b"{}", b"[1,2,3]", b'{"n":', b"[" * 5000,
    orjson.dumps(WRONG), orjson.dumps(dict.fromkeys(FIELDS, -1)), orjson.dumps(dict.fromkeys(FIELDS, "#/+")),
    msgspec.msgpack.encode([1, 2, 3]), msgspec.msgpack.encode(["x", 2**63, [], {}]), msgspec.msgpack.encode(WRONG),
    b"\x00" * 300_000,
)  # fmt: skip
KEYS = (None, b"", b"\xff\xfe", b"somebody", b"device.raw/0")


class Bed:
    """A stack of its own: what a stranger does to one stays there."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder / "data", only={*PARTS, *OURS})
        self.stack.start()
        self.system = Deployment.running(self.stack.data)
        self.folder = folder
        self.minute = 0
        self.device: TestedDevice | None = None

    def processes(self) -> dict[str, tuple[int, int]]:
        found = control.status(self.stack.data)["processes"]
        return {entry["name"]: (entry["pid"], entry["restarts"]) for entry in found}

    def log(self, name: str) -> str:
        return (self.stack.data / "logs" / f"{name}.log").read_text()[-6000:]

    def changed(self, before: dict[str, tuple[int, int]]) -> dict[str, str]:
        """Processes that ended since, with the last lines of their logs."""
        return {name: self.log(name) for name, was in self.processes().items() if was != before[name]}

    def good(self) -> None:
        """A message goes all the way: receipt, row, and alert."""
        if self.device is None:
            self.device = TestedDevice.register(self.system, "thermometer", None, self.folder)
        self.minute += 1
        at = datetime.now(UTC).isoformat()
        self.device.client.send_readings([{"metric": "temperature", "value": 40.5, "unit": "Cel", "time": at}])
        self.device.settle(60)
        assert len(self.device.readings(self.minute, 60)) == self.minute
        assert self.device.alerts(1, 60)


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    folder = Path(tempfile.mkdtemp(prefix="vitalgate-test-"))
    folder.chmod(0o711)
    try:
        made = Bed(folder)
    except PartError as error:
        pytest.skip(f"a part is missing on this machine: {error}")
    made.good()
    yield made
    if made.device is not None:
        made.device.close()
    made.stack.stop(remove=True)
    shutil.rmtree(folder, ignore_errors=True)


# --- Kafka -----------------------------------------------------------------------------------------------------------


def test_garbage_on_every_topic_ends_no_process(bed: Bed) -> None:
    kafka = bed.system.settings.kafka
    before = bed.processes()
    taken: Counter[str] = Counter()

    def told(error: KafkaError | None, message: Message) -> None:
        taken[str(message.topic())] += error is None

    producer = Producer({**kafka_options(kafka), "message.max.bytes": 4_000_000})
    for topic in topics.ALL:
        for partition in range(topic.partitions or kafka.partitions):
            for value in GARBAGE if topic.compacted else GARBAGE[1:]:
                # A compacted topic takes no record without a key: Kafka itself refuses the batch it is in.
                for key in KEYS[1:] if topic.compacted else KEYS[:1]:
                    headers = [("trace", b"\xff"), ("topic", b"v1/devices/\xff/readings"), ("received_at", b"never")]
                    producer.produce(
                        topics.full(topic, kafka), value, key, partition=partition, headers=headers, on_delivery=told
                    )
        producer.flush(20)
    for topic in topics.ALL:
        each = len(GARBAGE) * len(KEYS[1:]) if topic.compacted else len(GARBAGE) - 1
        assert taken[topics.full(topic, kafka)] == each * (topic.partitions or kafka.partitions), topic.name
    bed.good()
    assert bed.changed(before) == {}


@pytest.mark.slow
def test_nothing_is_wedged_at_a_start_after_the_garbage(bed: Bed) -> None:
    old = bed.processes()
    for name in OURS:
        control.kill_process(bed.stack.data, name)

    def back(status: dict[str, Any]) -> bool:
        return all(
            one["state"] == "ready" and one["pid"] != old[one["name"]][0]
            for one in status["processes"]
            if one["name"] in OURS
        )

    control.wait_until(bed.stack.data, back, 120)
    before = bed.processes()
    bed.good()
    told = bed.system.command("ledger", "--json", status=None)
    assert told["lost"] == 0 and told["balanced"]
    bed.system.command("alerts", "list", "--json")
    assert bed.changed(before) == {}


# --- MQTT ------------------------------------------------------------------------------------------------------------

CONNECT = b"\x10\x16\x00\x04MQTT\x04\x02\x00\x3c\x00\x0amalformed1"
PACKETS = {
    "nothing": b"",
    "noise": bytes(range(256)) * 4,
    "a remaining length without end": b"\x10\xff\xff\xff\xff\xff\xff",
    "a connect that claims 256 MB": b"\x10\xff\xff\xff\x7f" + b"\x00" * 64,
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a protocol of version 9": b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00",
    "an empty client id, session kept": b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x3c\x00\x00",
    "a publish before the connect": b"\x30\x05\x00\x01aXX",
    "reserved bits in the connect": b"\x1f" + CONNECT[1:],
    "a second connect": CONNECT + CONNECT,
    "a user name that is no UTF-8": b"\x10\x14\x00\x04MQTT\x04\x82\x00\x3c\x00\x01a\x00\x05\xff\xfe\xed\xa0\x80",
    "a will with wildcards": b"\x10\x19\x00\x04MQTT\x04\x06\x00\x3c\x00\x01a\x00\x05v1/#/\x00\x03bye",
}


@pytest.mark.parametrize("what", PACKETS)
def test_malformed_packets_end_no_process(bed: Bed, what: str) -> None:
    before = bed.processes()
    for _ in range(2):
        with socket.create_connection((bed.system.host, bed.system.port), 5) as raw, contextlib.suppress(OSError):
            raw.settimeout(0.1)
            raw.sendall(PACKETS[what])
            raw.recv(64)
    assert bed.changed(before) == {}


def test_a_device_that_abuses_mqtt_harms_nobody(bed: Bed) -> None:
    """Retained floods, wildcards, $SYS, topics without end, clients that come and go under one id."""
    bed.good()
    assert bed.device is not None
    own = f"v1/devices/{bed.device.device_id}"
    before = bed.processes()

    def connect(name: str) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, name)
        client.username_pw_set(bed.device.device_id, bed.device.password)  # type: ignore[union-attr]
        client.connect(bed.system.host, bed.system.port)
        client.loop_start()
        return client

    heard: list[str] = []
    client = connect(f"{bed.device.device_id}-abuse")
    client.on_message = lambda _client, _data, message: heard.append(message.topic)
    for pattern in ("#", "+/#", "$SYS/#", "v1/devices/+/readings", "v1/alerts/#", f"$share/vitalgate/{own[:10]}/#"):
        client.subscribe(pattern, qos=1)
    sent = [
        client.publish(f"{own}/readings", b'{"n":%d,"readings":[]}' % n, qos=1, retain=True) for n in range(500)
    ]  # one topic: the last stays
    sent += [client.publish(f"{own}/status/{n}/" + "x/" * (n % 180), b"x", qos=1, retain=True) for n in range(500)]
    sent.append(client.publish(own + "/" + "y" * 60_000, b"x", qos=1))
    for message in sent:
        message.wait_for_publish(30)
    others = [topic for topic in heard if not topic.startswith(own)]
    client.loop_stop()
    client.disconnect()
    for _ in range(20):  # each throws the one before out
        connect(f"{bed.device.device_id}-twin").loop_stop()
    assert others == [], "a device heard what is none of its business"
    bed.good()
    assert bed.changed(before) == {}
    # Retained or not, each was taken for what it is: a message with a key that nobody knows.
    query = "SELECT count(DISTINCT payload_hash) FROM vitalgate_data.dead_letters WHERE device_id = %s"
    with psycopg.connect(bed.system.settings.database.dsn, autocommit=True) as connection:
        end = time.monotonic() + 60
        while (found := connection.execute(query, (bed.device.device_id,)).fetchone()) != (500,):
            assert time.monotonic() < end, found
            time.sleep(0.2)
