"""How many items a second one recorder puts into committed rows, and the CPU time it takes.

    python -m tests.storage.throughput 'host=127.0.0.1 dbname=…' [--batches 60] [--batch 2000] [--corrections 0.01]
        [--kind readings|resent|waveforms]

Migrates into the schema `vitalgate_throughput`, which is dropped at the end. Batches are made beforehand, as bytes.
"""

from __future__ import annotations

import argparse
import random
import time

import psycopg

from tests.storage.builders import SECOND, T0, Log, reading, waveform
from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.devices.records import Corrects, decode_batch, encode
from vitalgate.storage.migrate import migrate
from vitalgate.storage.recorder import Recorder

SCHEMA = "vitalgate_throughput"
DEVICES = 2000
METRICS = ("spo2", "pulse_rate", "perfusion_index")


def batches(count: int, size: int, corrections: float, kind: str) -> list[bytes]:
    """Encoded batches of `size` messages: three readings each, some of them corrections, or one ECG packet each.

    With `resent` the second half repeats the first.
    """
    chance = random.Random(1)
    log = Log()
    made = []
    unique = count * size // 2 if kind == "resent" else count * size
    ecg = [round(200 * chance.gauss(0, 0.1)) for _ in range(250)]
    for place in range(count * size):
        number = place % unique
        device, seq = f"ox-{number % DEVICES:05d}", number // DEVICES + 1
        at = T0 + seq * SECOND + number % DEVICES
        more = {"repeat": place >= unique, "received_us": at + SECOND, "payload": f"{device} {seq}".encode()}
        if kind == "waveforms":
            block = waveform(ecg, first=250 * seq, start_us=at)
            made.append(log.message(device, seq, waveforms=[block], **more))
            continue
        items = [reading(90.0 + (number + k) % 10, item=k, metric=m, time_us=at) for k, m in enumerate(METRICS)]
        if seq > 1 and chance.random() < corrections:
            before = T0 + (seq - 1) * SECOND + number % DEVICES
            items[0] = reading(80.0, metric="spo2", time_us=before, corrects=Corrects("e1", seq - 1, 0))
        made.append(log.message(device, seq, readings=items, **more))
    return [encode(log.batch(*made[k : k + size])) for k in range(0, len(made), size)]


def cpu(pid: int) -> float:
    """CPU seconds of a process, user and system."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dsn")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--batch", type=int, default=2000, help="messages in a batch")
    parser.add_argument("--corrections", type=float, default=0.01)
    parser.add_argument("--kind", choices=["readings", "resent", "waveforms"], default="readings")
    given = parser.parse_args()
    database = DatabaseSettings(dsn=given.dsn, db_schema=SCHEMA)
    drop = "".join(f"DROP SCHEMA IF EXISTS {SCHEMA}{end} CASCADE;" for end in ("_records", "_data", ""))
    with psycopg.connect(given.dsn, autocommit=True) as connection:
        connection.execute(drop)
        migrate(database)
        prepared = batches(given.batches, given.batch, given.corrections, given.kind)
        with Recorder(database, KafkaSettings()) as recorder:
            recorder.high_water(0)
            server = recorder._session.open().info.backend_pid
            ours, theirs, started = time.process_time(), cpu(server), time.monotonic()
            items = messages = 0
            for raw in prepared:
                applied = recorder.apply(decode_batch(raw))
                items += applied.items
                messages += applied.messages
                recorder.mark_published(0, applied.last)
            took = time.monotonic() - started
            print(
                f"{items} items in {took:.1f} s: {items / took:,.0f} items/s, {messages / took:,.0f} messages/s; "
                f"CPU an item: {1e6 * (time.process_time() - ours) / items:.1f} us here, "
                f"{1e6 * (cpu(server) - theirs) / items:.1f} us in its PostgreSQL backend"
            )
        connection.execute(drop)


if __name__ == "__main__":
    main()
