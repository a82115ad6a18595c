"""A small deployment in the database: two patients, an ECG patch that changes hands, beats and rhythm events."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from psycopg import sql

from vitalgate.config.settings import DatabaseSettings, KafkaSettings
from vitalgate.devices.records import Message, Reading, ValidatedBatch, Waveform
from vitalgate.storage.archive import Archive
from vitalgate.storage.migrate import migrate
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.registry import NewDevice, Registry

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
RATE = 250
SECONDS = 40
#: p1 has the patch for the first 25 s, p2 from then on.
HANDOVER = START + timedelta(seconds=25)


def beat_times() -> list[float]:
    """A beat each 0.8 s, but for a pause from 14.4 to 18 s."""
    return [at for at in np.arange(0.4, SECONDS, 0.8).round(3).tolist() if not 14.5 < at < 17.9]


def _samples() -> np.ndarray:
    t = np.arange(SECONDS * RATE) / RATE
    signal = sum(np.exp(-((t - at) ** 2) / 0.0003) for at in beat_times())
    return np.round(200 * np.asarray(signal)).astype("<i4")


def _messages() -> list[Message]:
    samples = _samples()
    found = []
    for second in range(SECONDS):
        first = second * RATE
        at = START_US + second * 1_000_000
        block = Waveform(
            0, "ecg.II", "r1", first, RATE, at, RATE, 1, 200.0, 0.0, "mV", samples[first : first + RATE].tobytes()
        )
        pulse = Reading(0, "pulse_rate", "", at, 0, 75.0, None, "", "", "/min", 75.0, "/min", at, None)
        extra = {"readings": [pulse]} if second % 10 == 5 else {"waveforms": [block]}
        if second % 10 == 5 and second != 35:
            extra["waveforms"] = [block]
        found.append(
            Message(
                "patch", "waveforms", second, at + 100_000, f"{second:032x}", "e", second, 1, second, False, 0,
                bytes([second] * 16), bytes([second] * 8), **extra,
            )
        )  # fmt: skip
    return found


@pytest.fixture(scope="session")
def deployment(postgres_dsn: str) -> Iterator[DatabaseSettings]:
    """The database; second 35 of the ECG is missing."""
    settings = DatabaseSettings(dsn=postgres_dsn, db_schema=f"vgr_{os.getpid()}", timescale="off")
    migrate(settings)
    with Registry(settings) as registry:
        registry.add_patient("p1", "Europe/Berlin", "care")
        registry.add_patient("p2", "UTC", "care")
        registry.add_device(NewDevice("patch", "ecg-patch", "x"))
        registry.assign("patch", "p1", START - timedelta(days=1), HANDOVER)
        registry.assign("patch", "p2", HANDOVER)
    recorder = Recorder(settings, KafkaSettings())
    recorder.open()
    messages = _messages()
    recorder.apply(ValidatedBatch(0, 0, len(messages) - 1, messages, "test"))
    recorder.close()
    _results(settings)
    yield settings
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        for name in (f"{settings.db_schema}_records", settings.db_schema, f"{settings.db_schema}_data"):
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def _text(at: float) -> str:
    return (START + timedelta(seconds=at)).isoformat()


def _results(settings: DatabaseSettings) -> None:
    common = {
        "device_id": "patch", "channel": "ecg.II", "recording": "r1", "algorithm": "vg-beats", "algorithm_version": "1",
        "revision": 1, "rate": "250/1", "patient": "p1",
    }  # fmt: skip
    blocks = [
        common | {
            "block": b, "first_sample": 2500 * b, "stop_sample": 2500 * b + 2500, "start": _text(10 * b),
            "final": True, "inputs": {"present": 2500}, "quality": "good",
            "beats": [
                {"sample": round(at * RATE), "time": _text(at), "kind": "N", "rr_ms": None}
                for at in beat_times() if 10 * b <= at < 10 * b + 10
            ],
        }
        for b in range(4)
    ]  # fmt: skip

    def event(name: str, start: float, end: float, value: float, unit: str) -> dict[str, object]:
        window = {"first_sample": round(start * RATE), "stop_sample": round(end * RATE)}
        return common | {
            "name": name, "window": window, "start": _text(start), "end": _text(end), "value": value, "unit": unit,
            "withdrawn": False,
        }  # fmt: skip

    archive = Archive(settings)
    archive.open()
    archive.beats(blocks)
    archive.features(
        [
            event("event.pause", 14.4, 18.0, 3.6, "s"),
            event("event.bradycardia", 12.0, 20.0, 41.0, "/min"),
            event("event.bradycardia", 20.0, 22.0, 39.0, "/min"),
        ]
    )
    archive.close()
