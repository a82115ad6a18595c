"""Waveform blocks: overlaps, reading back bit for bit, repacking, bytes at rest."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from tests.storage.builders import SECOND, T0, Log, waveform
from tests.storage.conftest import Query
from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage import ledger, maintenance, repack
from vitalgate.storage.connect import connect
from vitalgate.storage.recorder import Recorder
from vitalgate.storage.times import moment
from vitalgate.storage.waveforms import Stretch, read, read_samples

START = moment(T0)
LATER = datetime(2030, 1, 1, tzinfo=UTC)


def _whole(database: DatabaseSettings, stop: int = 10_000) -> Stretch:
    found = read_samples(database, "ox-1", "ecg.II", "r1", 0, stop)
    assert found is not None
    return found


def _repack(database: DatabaseSettings) -> repack.Repacked:
    with connect(database, "test", autocommit=True) as connection:
        return repack.run(connection, LATER, idle_before=LATER)


def _feed(recorder: Recorder, log: Log, samples: np.ndarray, packet: int, first_seq: int = 1) -> None:
    for k in range(0, len(samples), packet * 50):
        messages = []
        for low in range(k, min(k + packet * 50, len(samples)), packet):
            block = waveform(samples[low : low + packet].tolist(), first=low)
            messages.append(log.message(seq=first_seq + low // packet, waveforms=[block]))
        applied = recorder.apply(log.batch(*messages))
        recorder.mark_published(0, applied.last)
    recorder.flush_published()


@pytest.fixture
def signal() -> np.ndarray:
    """Some thousand samples that wander like an ECG, with the extremes of int32 among them."""
    chance = np.random.default_rng(1)
    values = np.cumsum(chance.integers(-9, 10, 5000)).astype(np.int32)
    values[[100, 101, 102]] = [2**31 - 1, -(2**31), 0]
    return values


def test_samples_come_back_bit_for_bit(recorder: Recorder, database: DatabaseSettings, signal: np.ndarray) -> None:
    _feed(recorder, Log(), signal, 250)
    found = _whole(database, 5000)
    assert np.array_equal(found.samples, signal)
    assert found.gaps == []
    part = read_samples(database, "ox-1", "ecg.II", "r1", 333, 2222)
    assert part is not None and np.array_equal(part.samples, signal[333:2222])
    assert read_samples(database, "ox-1", "ecg.II", "other", 0, 10) is None


def test_a_stretch_of_time_is_cut_to_the_sample(
    recorder: Recorder, database: DatabaseSettings, signal: np.ndarray
) -> None:
    _feed(recorder, Log(), signal, 250)
    (found,) = read(database, "ox-1", "ecg.II", START + timedelta(seconds=1), START + timedelta(seconds=3))
    assert (found.first, found.stop) == (250, 750)
    assert found.start == START + timedelta(seconds=1)
    assert found.time_of(500) == START + timedelta(seconds=2)
    assert np.allclose(found.physical(), signal[250:750] / 200.0)
    assert read(database, "ox-1", "ecg.II", START - timedelta(days=1), START) == []


def test_gaps_are_told(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    recorder.apply(
        log.batch(
            log.message(seq=1, waveforms=[waveform([1] * 10, missing=[(2, 3)])]),
            log.message(seq=2, waveforms=[waveform([2] * 10, first=20)]),
        )
    )
    found = read_samples(database, "ox-1", "ecg.II", "r1", 0, 40)
    assert found is not None
    assert found.gaps == [(2, 5), (10, 20), (30, 40)]
    assert found.samples[2:5].tolist() == [0, 0, 0]
    assert np.isnan(found.physical()[[2, 15, 35]]).all()


def test_an_identical_overlap_is_a_duplicate(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, waveforms=[waveform(range(10))])))
    again = recorder.apply(log.batch(log.message(seq=2, waveforms=[waveform(range(2, 7), first=2)])))
    assert (again.stored, again.duplicate) == (0, 1)
    assert ledger.read(database).balanced


def test_another_content_is_a_version_of_that_range(
    recorder: Recorder, database: DatabaseSettings, query: Query
) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, waveforms=[waveform(range(10), missing=[(8, 2)])])))
    applied = recorder.apply(log.batch(log.message(seq=2, waveforms=[waveform([70, 71, 72], first=4)])))
    assert (applied.stored, applied.versions) == (1, 1)
    found = read_samples(database, "ox-1", "ecg.II", "r1", 0, 10)
    assert found is not None
    assert found.samples.tolist() == [0, 1, 2, 3, 70, 71, 72, 7, 0, 0]
    assert found.gaps == [(8, 10)]
    assert query("SELECT sum(n_items) FROM waveforms") == [(2,)]
    assert found.time_of(7) == START + timedelta(seconds=7 / 250)
    assert ledger.read(database).balanced


def test_the_devices_order_decides_not_arrival(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    late_first = [
        log.message(seq=2, waveforms=[waveform([9, 9], first=2)]),
        log.message(seq=1, waveforms=[waveform(range(6))]),
    ]
    for message in late_first:
        recorder.apply(log.batch(message))
    found = read_samples(database, "ox-1", "ecg.II", "r1", 0, 6)
    assert found is not None and found.samples.tolist() == [0, 1, 9, 9, 4, 5]
    assert ledger.read(database).balanced


def test_a_resent_block_is_a_duplicate_wherever_it_is_placed(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    recorder.apply(log.batch(log.message(seq=1, waveforms=[waveform(range(6))])))
    same = recorder.apply(log.batch(log.message(seq=1, repeat=True, waveforms=[waveform(range(6))])))
    moved = recorder.apply(log.batch(log.message(seq=1, repeat=True, waveforms=[waveform(range(6), first=900)])))
    other = recorder.apply(log.batch(log.message(seq=1, repeat=True, waveforms=[waveform(range(7), first=900)])))
    assert [(a.duplicate, a.dead_lettered) for a in (same, moved, other)] == [(1, 0), (1, 0), (0, 1)]
    assert ledger.read(database).balanced


def test_repacked_rows_hold_the_same_samples_and_items(
    recorder: Recorder, database: DatabaseSettings, query: Query, signal: np.ndarray
) -> None:
    _feed(recorder, Log(), signal, 250)
    done = _repack(database)
    assert (done.rows_before, done.rows_after) == (20, 1)
    assert query("SELECT n_items, count FROM waveforms") == [(20, 5000)]
    assert np.array_equal(_whole(database, 5000).samples, signal)
    (found,) = read(database, "ox-1", "ecg.II", START + timedelta(seconds=1), START + timedelta(seconds=3))
    assert (found.first, found.stop) == (250, 750)
    assert ledger.read(database).balanced
    assert _repack(database).rows_before == 0


def test_unpublished_blocks_are_left_alone(recorder: Recorder, database: DatabaseSettings) -> None:
    log = Log()
    messages = [log.message(seq=n, waveforms=[waveform([n] * 10, first=10 * n)]) for n in range(1, 5)]
    recorder.apply(log.batch(*messages))
    assert _repack(database).rows_before == 0


def test_late_data_after_repacking(
    recorder: Recorder, database: DatabaseSettings, query: Query, signal: np.ndarray
) -> None:
    log = Log()
    _feed(recorder, log, signal, 250)
    _repack(database)
    again = recorder.apply(
        log.batch(log.message(seq=3, repeat=True, waveforms=[waveform(signal[500:750].tolist(), first=500)]))
    )
    assert (again.stored, again.duplicate) == (0, 1)
    fixed = recorder.apply(log.batch(log.message(seq=90, waveforms=[waveform([5] * 100, first=700)])))
    assert fixed.stored == 1
    expected = signal.copy()
    expected[700:800] = 5
    assert np.array_equal(_whole(database, 5000).samples, expected)
    assert ledger.read(database).balanced
    recorder.mark_published(0, fixed.last)
    recorder.flush_published()
    _repack(database)
    assert np.array_equal(_whole(database, 5000).samples, expected)
    assert ledger.read(database).balanced


def test_a_gap_filled_late_is_repacked_too(
    recorder: Recorder, database: DatabaseSettings, query: Query, signal: np.ndarray
) -> None:
    log = Log()
    blocks = [waveform(signal[k : k + 250].tolist(), first=k) for k in range(0, 5000, 250)]
    order = [*range(5), *range(10, 20), *range(5, 10)]
    for at, n in enumerate(order):
        applied = recorder.apply(log.batch(log.message(seq=n + 1, waveforms=[blocks[n]])))
        recorder.mark_published(0, applied.last)
        if at == 14:
            recorder.flush_published()
            _repack(database)
    recorder.flush_published()
    _repack(database)
    assert np.array_equal(_whole(database, 5000).samples, signal)
    assert query("SELECT sum(n_items), count(*) < 6 FROM waveforms") == [(20, True)]


def test_a_row_joined_deleted_by_hand_unbalances(
    recorder: Recorder, database: DatabaseSettings, query: Query, signal: np.ndarray
) -> None:
    _feed(recorder, Log(), signal, 250)
    _repack(database)
    query("DELETE FROM waveforms")
    assert ledger.read(database).lost == 20


def test_the_true_rate_is_fitted(recorder: Recorder, query: Query) -> None:
    log = Log()
    true = 250.02
    messages = [
        log.message(seq=n, waveforms=[waveform([0] * 250, first=250 * n, start_us=T0 + round(250 * n / true * SECOND))])
        for n in range(60)
    ]
    recorder.apply(log.batch(*messages))
    ((nominal, fitted),) = query("SELECT rate_nominal, rate_fitted FROM v.recordings")
    assert nominal == 250
    assert fitted == pytest.approx(true, abs=1e-4)


def _wait_for_old_snapshots(query: Query) -> None:
    """As long as somebody has an older snapshot, VACUUM keeps what was deleted since."""
    end = time.monotonic() + 30
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
    while query(others) != [(0,)] and time.monotonic() < end:
        time.sleep(0.2)


def test_ecg_takes_no_more_than_three_quarters_of_a_byte_a_sample(
    recorder: Recorder, database: DatabaseSettings, query: Query, ecg_data: Path
) -> None:
    """Whole relations: rows, their index of items, TOAST and indexes, after repacking, over real recordings."""
    wfdb = pytest.importorskip("wfdb")
    records = sorted((ecg_data / "mitdb").glob("*.hea"))[:3]
    assert records, f"no records in {ecg_data / 'mitdb'}"
    log = Log()
    total = packets = 0
    for n, header in enumerate(records):
        samples = wfdb.rdrecord(str(header.with_suffix("")), physical=False).d_signal[:, 0]
        total += len(samples)
        packets += -(-len(samples) // 360)
        messages = []
        for k in range(0, len(samples), 360):
            w = waveform(samples[k : k + 360].tolist(), first=k, rate=360, recording=header.stem)
            messages.append(log.message(f"patch-{n}", seq=k // 360 + 1, waveforms=[w]))
        applied = recorder.apply(log.batch(*messages))
        recorder.mark_published(0, applied.last)
    recorder.flush_published()
    _wait_for_old_snapshots(query)
    report = maintenance.run(database, LATER)
    assert report.joined == packets
    assert report.squeezed
    with psycopg.connect(database.dsn) as connection:
        ((size, data),) = connection.execute(
            "SELECT sum(pg_total_relation_size(c.oid)),"
            " sum(pg_relation_size(c.oid) + pg_total_relation_size(c.reltoastrelid))"
            " FROM pg_class c WHERE c.relname = ANY(%s)",
            (report.squeezed,),
        ).fetchall()
    print(f"{total} samples, {size / total:.3f} bytes each at rest ({data / total:.3f} without the indexes)")
    assert size / total <= 0.75
