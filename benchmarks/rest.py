"""Bytes of disk for one ECG sample once the rows are repacked: recordings through the whole path, two weeks old."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import cbor2
import numpy as np

from benchmarks import load
from benchmarks.bed import Bed, BenchError, Wearer, now
from benchmarks.committed import CommitWatch, balanced
from benchmarks.throughput import publish
from vitalgate.config.topics import device_topic
from vitalgate.devices.codec import pack_samples
from vitalgate.simulators import recordings
from vitalgate.simulators.physiology import Person
from vitalgate.simulators.recordings import Channel, Recording
from vitalgate.simulators.signals import ecg
from vitalgate.storage import maintenance, partitions
from vitalgate.storage.connect import connect, names

AIM = 0.75
_BACK = timedelta(days=16)
_RECORDINGS = 8
_SECONDS_EACH = 20
"""Seconds of recording for one second of the section."""
_RATE = 1500
_PATIENCE_S = 60.0


def recorded() -> list[Path]:
    """Real recordings, where there are some: VITALGATE_ECG_DATA, or ../shared/data, with a folder mitdb or without."""
    named = os.environ.get("VITALGATE_ECG_DATA")
    base = Path(named) if named else Path("../shared/data")
    for folder in (base / "mitdb", base):
        if any(folder.glob("*.hea")):
            found = recordings.find(folder)
            return found[:: max(1, len(found) // _RECORDINGS)][:_RECORDINGS]
    return []


def run(bed: Bed, seconds: float, scale: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """The section."""
    paths, length = recorded(), max(60.0, seconds * _SECONDS_EACH * scale)
    source = "MIT-BIH and the like, as recorded" if paths else "synthetic"
    books = [recordings.read(path, length) for path in paths] or [_synthetic(n, length) for n in range(_RECORDINGS)]
    wearers = [Wearer(f"r-p{n}", f"r-d{n}", "ecg-patch") for n in range(len(books))]
    start = now() - _BACK
    bed.enrol(wearers, start - timedelta(hours=1))
    tell(f"{len(books)} recordings of {length:g} s ({source})")
    messages = list(_packets(wearers, books, start))
    samples = sum(book.count * len(book.channels) for book in books)
    with CommitWatch(bed.settings, 0.05) as watch:
        publish(bed, load.Departures(messages), len(messages), _RATE)
        watch.wait(len(messages), _PATIENCE_S)
    hot = _size(bed, start, length)
    tell("repacking")
    until = time.monotonic() + _PATIENCE_S
    # Packed as the hourly housekeeping would do it tomorrow, once everything has been published.
    while (left := _unpacked(bed)) or not _squeezed(bed):
        maintenance.run(bed.settings.database, now() + timedelta(hours=30))
        if time.monotonic() > until:
            raise BenchError(f"after {_PATIENCE_S:g} s {left} recordings are still not repacked")
    stored, rows = _stored(bed)
    size = _size(bed, start, length)
    return {
        "source": source,
        "recordings": [book.name for book in books],
        "samples": samples,
        "samples_stored": stored,
        "rows": rows,
        "bytes": size,
        "bytes_per_sample": round(size / stored, 4),
        "bytes_per_sample_before": round(hot / stored, 4),
        "balanced": balanced(bed.settings),
    }


def _synthetic(seed: int, seconds: float) -> Recording:
    count = int(seconds * load.RATE)
    signal = ecg(Person(seed + 100, 1_700_000_000.0), ["II"], 1_700_000_000.0, load.RATE, 0, count)[0]
    raw = np.rint(signal * load.GAIN).astype(np.int32)
    channel = Channel("ecg.II", "II", raw, load.GAIN, 0.0, "mV")
    return Recording(f"synthetic-{seed}", Fraction(load.RATE), (channel,), Path())


def _packets(wearers: list[Wearer], books: list[Recording], start: datetime) -> Iterator[load.Message]:
    """A packet of a second of each recording in turns; all channels in one message."""
    for number in range(max(int(book.seconds) + 1 for book in books)):
        for wearer, book in zip(wearers, books, strict=True):
            low, high = (min(book.count, round(n * book.rate)) for n in (number, number + 1))
            if low == high:
                continue
            begin = (start + timedelta(microseconds=int(low * 1_000_000 / book.rate))).isoformat()
            waveforms = [
                {
                    "channel": channel.name if channel.name in _CHANNELS else _CHANNELS[place],
                    "recording": book.name,
                    "first_sample": low,
                    "start": begin,
                    "rate": str(book.rate),
                    "gain": channel.gain,
                    "offset": channel.offset,
                    "unit": channel.unit,
                    "samples": pack_samples(channel.samples[low:high].tolist()),
                }
                for place, channel in enumerate(book.channels)
            ]
            document = {"epoch": "r1", "seq": number + 1, "waveforms": waveforms}
            topic = device_topic(wearer.device, "waveforms")
            yield load.Message(wearer.device, number + 1, topic, cbor2.dumps(document), packets=len(waveforms))


_CHANNELS = (
    "ecg.I", "ecg.III", "ecg.II", "ecg.MLII", "ecg.V1", "ecg.V2", "ecg.V3", "ecg.V4", "ecg.V5", "ecg.V6",
)  # fmt: skip


def _chunks(bed: Bed, start: datetime, seconds: float) -> list[partitions.Chunk]:
    stop = start + timedelta(seconds=seconds)
    with connect(bed.settings.database, "bench-rest") as connection:
        found = partitions.chunks(connection, names(bed.settings.database), "waveforms")
    return [chunk for chunk in found if chunk.begin < stop and start < chunk.end]


def _size(bed: Bed, start: datetime, seconds: float) -> int:
    """Bytes of the pieces of the table that hold these weeks, with their indexes and TOAST."""
    total = 0
    with connect(bed.settings.database, "bench-rest") as connection:
        for chunk in _chunks(bed, start, seconds):
            row = connection.execute(
                "SELECT pg_total_relation_size(format('%%I.%%I', %s::text, %s::text)::regclass)",
                (chunk.schema, chunk.name),
            ).fetchone()
            total += int(row[0]) if row else 0
    return total


def _unpacked(bed: Bed) -> int:
    """Recordings with rows that housekeeping has not come to; a last packet alone stays the row it is."""
    with connect(bed.settings.database, "bench-rest") as connection:
        row = connection.execute(
            "SELECT count(*) FROM recordings WHERE device_id LIKE 'r-d%'"
            " AND stop_sample > coalesce(packed_through, first_sample)"
        ).fetchone()
    return int(row[0]) if row else 0


def _squeezed(bed: Bed) -> bool:
    with connect(bed.settings.database, "bench-rest") as connection:
        row = connection.execute("SELECT count(*) FROM squeezed").fetchone()
    return bool(row and row[0])


def _stored(bed: Bed) -> tuple[int, int]:
    with connect(bed.settings.database, "bench-rest") as connection:
        row = connection.execute("SELECT sum(count), count(*) FROM waveforms WHERE device_id LIKE 'r-d%'").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def text(found: dict[str, Any]) -> list[str]:
    """For people."""
    return [
        f"{found['samples_stored']:,} of {found['samples']:,} samples of {len(found['recordings'])} recordings "
        f"({found['source']}) in {found['rows']} rows",
        f"bytes per sample    {found['bytes_per_sample']:.3f} with indexes (aim {AIM}); "
        f"{found['bytes_per_sample_before']:.3f} before repacking",
    ]
