"""Memory records: all that the engine must not forget of one patient, as MessagePack (topic alerting.memory)."""

from __future__ import annotations

from array import array

import msgspec
import numpy as np
from numpy.typing import NDArray

from vitalgate.alerts.columns import Now, Ref, Sources
from vitalgate.alerts.machine import NEVER, State, fingerprint
from vitalgate.alerts.patient import Known, Patient, Waiting
from vitalgate.alerts.presence import Presence
from vitalgate.alerts.rules import Book
from vitalgate.alerts.series import Series
from vitalgate.alerts.stepping import Interval
from vitalgate.alerts.track import Track

FORMAT = 2

_COLUMNS = ("times", "values", "ends", "source", "index", "epoch", "order", "item", "content")


#: By key, patient and device: event time of the last sign of life, and the tick at which it came.
Heard = dict[str, dict[str, dict[str, tuple[int, int]]]]


class _Track(msgspec.Struct, array_like=True):
    columns: list[bytes]
    """The arrays of `_COLUMNS`, little-endian; times and order as differences, which pack well."""
    base: dict[str, State]
    past: dict[str, list[Interval]]
    """Both by the term's fingerprint, so that other limits never inherit them."""
    base_valid: int
    edge: int
    ceiling: int | None
    alternatives: list[tuple[tuple[int, int, int], list[tuple[float, tuple[int, int]]]]]
    superseded: list[Ref]


class _Series(msgspec.Struct, array_like=True):
    main: _Track
    late: _Track | None
    arrived: int


class _Memory(msgspec.Struct, array_like=True):
    format: int
    deadline: int | None
    book: str
    open: list[str]
    outbox: list[bytes]
    sources: list[tuple[str, str]]
    series: dict[str, _Series]
    known: dict[str, list[Known]]
    epochs: dict[str, dict[str, int]]
    waiting: list[Waiting]
    presence: dict[str, dict[str, Presence]] = {}
    commands: dict[str, list[str]] = {}


class Head(msgspec.Struct, array_like=True):
    """The beginning of a memory record, read without unpacking the rest."""

    format: int
    deadline: int | None
    """When the patient must be looked at though nothing arrives, us; None when never."""
    book: str
    """Fingerprint of the rules and limits under which it was made."""
    open: list[str]
    """Priorities of the open alerts."""
    outbox: list[bytes] = []
    """Events that were about to be told when it was written."""


_TICK = ""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Memory).decode
_heard = msgspec.msgpack.Decoder(Heard).decode
_head = msgspec.msgpack.Decoder(Head).decode


def pack(patient: Patient, outbox: list[bytes] | None = None) -> bytes:
    """The patient's memory record, with the events that are about to be told."""
    _forget_sources(patient)
    return _encode(
        _Memory(
            FORMAT, patient.deadline, patient.book.fingerprint, patient.open_priorities(), outbox or [],
            patient.sources.names,
            {
                key: _Series(_pack(series.main), None if series.late is None else _pack(series.late), series.arrived)
                for key, series in patient.series.items()
            },
            patient.known, patient.epochs, patient.waiting, patient.presence, patient.commands,
        )
    )  # fmt: skip


def head(packed: bytes) -> Head:
    """What is told of a packed patient at once.

    Raises
    ------
    msgspec.DecodeError
        When the bytes are no memory record.
    """
    return _head(packed)


def unpack(packed: bytes, name: str, book: Book, now: Now | None = None) -> Patient:
    """The patient of a memory record, under the rules that hold now.

    Raises
    ------
    msgspec.DecodeError
        When the bytes are no memory record.
    """
    memory = _decode(packed)
    patient = Patient(name, book, now)
    patient.sources = Sources([(device, site) for device, site in memory.sources], now)
    patient.known, patient.epochs, patient.waiting = memory.known, memory.epochs, memory.waiting
    patient.deadline = memory.deadline
    patient.presence, patient.commands = memory.presence, memory.commands
    patient.fit_presence()
    if memory.book != book.fingerprint:
        patient.settle(patient.known)
    for key, stored in memory.series.items():
        terms = book.by_key.get(key)
        if terms is None:
            continue
        series = patient.series[key] = Series(terms, patient.sources, key.startswith("feature/event."))
        series.arrived = stored.arrived
        _unpack(stored.main, series.main)
        if stored.late is not None:
            series.late = Track(terms, patient.sources, series.spans)
            _unpack(stored.late, series.late)
    return patient


def pack_heard(heard: Heard, now: int) -> bytes:
    """Last signs of life as a record, with the newest tick (us), which stands under a key that no series has."""
    return _encode(heard | {_TICK: {_TICK: {_TICK: (now, now)}}})


def unpack_heard(packed: bytes) -> tuple[Heard, int]:
    """The same from the record; the tick is NEVER in one without. Raises msgspec.DecodeError when it is none."""
    heard = _heard(packed)
    tick = heard.pop(_TICK, None)
    return heard, NEVER if tick is None else tick[_TICK][_TICK][0]


def next_deadline(patient: Patient, now: int) -> int | None:
    """The earliest time at which time alone can change what the rules say of this patient."""
    due: list[int] = []
    for series in patient.series.values():
        for k, term in enumerate(series.terms):
            if term.timed:
                at = series.deadline(k, now)
                if at is not None:
                    due.append(at)
    for devices in patient.presence.values():
        for device, presence in devices.items():
            windows = None if patient.worn is None else patient.worn.get(device, [])
            silent = presence.due() if presence.runs else presence.due_first(windows)
            # What is due already and was not told yet is told with the next tick.
            if silent is not None and (silent > now or not (presence.runs or presence.missed is not None)):
                due.append(silent)
    for stops in (patient.worn or {}).values():
        due += [stop for _, stop in stops if stop is not None and stop > now]
    due += [at for at in patient.book.edges if at > now]
    return min(due, default=None)


def _steps(values: NDArray[np.int64]) -> bytes:
    # As np.diff with a zero before, at a tenth of its time for columns as short as these.
    steps = values.copy()
    np.subtract(values[1:], values[:-1], out=steps[1:])
    return steps.tobytes()


def _pack(track: Track) -> _Track:
    columns = []
    for name in _COLUMNS:
        column = getattr(track, name)
        if name in ("times", "order") and column:
            columns.append(_steps(np.frombuffer(column, np.int64)))
        else:
            columns.append(column.tobytes())
    return _Track(
        columns,
        {fingerprint(term): track.base[k] for k, term in enumerate(track.terms) if track.base[k] is not None},
        {fingerprint(term): track.past[k] for k, term in enumerate(track.terms) if track.past[k]},
        track.base_valid, track.edge, track.ceiling,
        [(key, list(value.items())) for key, value in track.alternatives.items()], track.superseded,
    )  # fmt: skip


def _unpack(stored: _Track, track: Track) -> None:
    for name, data in zip(_COLUMNS, stored.columns, strict=True):
        column = getattr(track, name)
        if name in ("times", "order"):
            data = np.cumsum(np.frombuffer(data, np.int64)).tobytes()
        column.frombytes(data)
    track.base = [_state(stored.base.get(fingerprint(term))) for term in track.terms]
    track.past = [stored.past.get(fingerprint(term), []) for term in track.terms]
    track.base_valid, track.edge, track.ceiling = stored.base_valid, stored.edge, stored.ceiling
    track.alternatives = {key: dict(value) for key, value in stored.alternatives}
    track.superseded = stored.superseded
    track.recompute()


def _state(stored: State) -> State:
    return None if stored is None else tuple(stored)


def _forget_sources(patient: Patient) -> None:
    """Number the sources anew when many are not used any more (a recording has its own)."""
    if len(patient.sources.names) <= 256:
        return
    tracks = [t for series in patient.series.values() for t in (series.main, series.late) if t is not None]
    used: set[int] = {k for track in tracks for k in track.source}
    refs = [ref for track in tracks for past in track.past for i in past for ref in i.evidence]
    refs += [ref for track in tracks for ref in track.superseded]
    refs += [ref for known in patient.known.values() for alert in known for ref in alert.evidence]
    used |= {ref.source for ref in refs} | {w.own[1] for w in patient.waiting}
    if 2 * len(used) > len(patient.sources.names):
        return
    keep = sorted(used)
    place = {old: new for new, old in enumerate(keep)}
    patient.sources = Sources([patient.sources.names[old] for old in keep], patient.sources.now)

    def moved(ref: Ref) -> Ref:
        return msgspec.structs.replace(ref, source=place[ref.source])

    for track in tracks:
        track.sources = patient.sources
        track.source = array("H", [place[k] for k in track.source])
        track.past = [
            [msgspec.structs.replace(i, evidence=tuple(map(moved, i.evidence))) for i in past] for past in track.past
        ]
        track.superseded = list(map(moved, track.superseded))
        track.alternatives = {(t, place[s], i): v for (t, s, i), v in track.alternatives.items() if s in place}
    for known in patient.known.values():
        for alert in known:
            alert.evidence = tuple(map(moved, alert.evidence))
    patient.waiting = [msgspec.structs.replace(w, own=(w.own[0], place[w.own[1]], w.own[2])) for w in patient.waiting]


__all__ = ["FORMAT", "Head", "head", "next_deadline", "pack", "unpack"]
