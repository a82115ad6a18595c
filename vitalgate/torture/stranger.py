"""A device without outbox that numbers its messages: plain QoS 1, as a device that knows nothing of receipts."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from typing import Any

import psycopg

from vitalgate.config.topics import device_topic
from vitalgate.devices.times import text as rfc3339
from vitalgate.simulators.cast import Cast, Player, Prop
from vitalgate.simulators.connection import Connection
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.scenario import DeviceOf
from vitalgate.storage import in_flight, ledger
from vitalgate.torture.fault import Field
from vitalgate.torture.rig import Rig

_PADDING = "x" * 2_000


class Burst:
    """Sends numbered readings as fast as the broker takes them, and forgets each at its PUBACK."""

    def __init__(self, device: str, password: str, port: int) -> None:
        self.device = device
        self.sent = 0
        self.acked = 0
        self._password = password
        self._port = port
        self._begin_us = (int(time.time()) - 86_400) * 1_000_000

    @classmethod
    async def enrol(cls, field: Field) -> Burst:
        """Register one for a round."""
        name = f"{field.traffic.prefix}-stranger"
        player = Player(name, "stranger", 1, "care", "Etc/UTC", Person(0))
        given = DeviceOf.model_validate({"kind": "pulse-oximeter"})
        members = Cast((player,), (Prop(f"{name}-ox", "ox", "pulse-oximeter", player, given),))
        assert field.registry is not None
        passwords = await field.do(field.registry.enrol, members, time.time() - 2 * 86_400)
        return cls(f"{name}-ox", passwords[f"{name}-ox"], field.rig.device_port)

    async def send(self, bytes_: int) -> None:
        """Send that many bytes in payloads of two kilobytes."""
        up = asyncio.Event()
        acked: set[int] = set()
        connection = Connection(
            "127.0.0.1", self._port, self.device, self._password, on_message=lambda *_: None,
            on_change=lambda there: up.set() if there else up.clear(), on_puback=acked.add,
        )  # fmt: skip
        connection.open()
        await asyncio.wait_for(up.wait(), 10)
        total, before = 0, self.sent
        give_up = time.monotonic() + 12
        while total < bytes_ and time.monotonic() < give_up:
            for _ in range(50):
                payload = self._payload(self.sent + 1)
                if connection.publish(device_topic(self.device, "readings"), payload) is None:
                    break
                self.sent += 1
                total += len(payload)
            await asyncio.sleep(0.01)
        while len(acked) < self.sent - before and time.monotonic() < give_up:
            await asyncio.sleep(0.05)
        self.acked += len(acked)
        connection.close()

    def _payload(self, seq: int) -> bytes:
        reading = {"metric": "spo2", "value": 97, "unit": "%", "time": rfc3339(self._begin_us + seq * 1_000_000)}
        return json.dumps({"epoch": "plain", "seq": seq, "readings": [reading], "x": _PADDING}).encode()

    async def account(self, field: Field, *, all_kept: bool = False) -> None:
        """Check that what is not stored is an open gap; the hole's size goes into the notes.

        With `all_kept`, what was acknowledged must be stored: no broker was killed, no queue was full.
        """
        settings = field.rig.settings
        database = settings.database

        def stored() -> set[int]:
            with psycopg.connect(database.dsn, options=f"-c search_path={database.db_schema}_data") as connection:
                rows = connection.execute("SELECT seq FROM readings WHERE device_id = %s", (self.device,))
                return {row[0] for row in rows}

        await asyncio.sleep(2)
        there = await field.do(stored)
        account = await field.do(lambda: in_flight.complete(ledger.read(database), settings.kafka))
        gaps: list[dict[str, Any]] = [gap for gap in account.gaps if gap["device_id"] == self.device]
        missing = {seq for gap in gaps for low, high in gap["missing"] for seq in range(low, high + 1)}
        holes = set(range(1, self.sent + 1)) - there
        behind = {seq for seq in holes if not there or seq > max(there)}
        field.notes["plain QoS 1 with seq: sent, acknowledged, stored, in gaps"] = [
            self.sent, self.acked, len(there), len(holes - behind),
        ]  # fmt: skip
        if all_kept and len(there) < self.acked:
            field.faults.append(f"the stranger had {self.acked} messages acknowledged, {len(there)} are stored")
        unseen = holes - missing - behind
        if unseen:
            field.faults.append(
                f"{len(unseen)} numbers of the stranger are neither stored nor in a gap: {min(unseen)}…"
            )


def queue_share(rig: Rig, bound: int) -> float:
    """Share of the bound on the broker's queue that the registrar's gauge shows; 0 when it does not answer."""
    for name in ("registrar", "notifier", "gateway"):
        for line in metrics_of(rig, name):
            if line.startswith("vitalgate_broker_queue_ratio"):
                return float(line.rsplit(" ", 1)[1])
    return 0.0


def metrics_of(rig: Rig, name: str) -> list[str]:
    """The lines of a process's /metrics; none when it does not answer."""
    ports = (json.loads((rig.works.data / "state.json").read_text(encoding="utf-8")).get("ports")) or {}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[f'health-{name}']}/metrics", timeout=3) as answer:
            return list(answer.read().decode().splitlines())
    except (OSError, KeyError):
        return []
