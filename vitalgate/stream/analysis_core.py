"""From packets of ECG samples to final blocks of beats and features: the analysis worker without its I/O. Pure.

The result of a block is a function of the set of samples only. A block is worked out when all the samples that it
depends on can be there (``high`` has passed its end by AFTER_S), or when its recording has gone quiet; a sample that
comes later, or is corrected or taken away, makes the blocks that depend on it due again. What is the same as before is
not given out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitalgate.devices.records import Message, Waveform
from vitalgate.signal import beats as detector
from vitalgate.signal.apart import Piece, find_beats_apart, quality_apart
from vitalgate.signal.quality import Grade, Reason, Stretch
from vitalgate.signal.rhythm import MISSING_S
from vitalgate.stream.analysis_features import HRV_BLOCKS, FeatureResult, block_features, window_features
from vitalgate.stream.analysis_line import Key, Line, Packet, packet_of

#: Packets are kept in memory this long behind the newest sample, seconds.
KEEP_S = 90.0
#: Results of this many blocks are kept in memory: the longest HRV window and its surroundings.
KEEP_BLOCKS = 2 * max(HRV_BLOCKS.values()) + 4
ECG = "ecg."


@dataclass
class Block:
    """The result of one block: beats (absolute samples), which samples were present, and the quality of the signal."""

    beats: NDArray[np.int64]
    present: NDArray[np.bool_]
    quality: str
    believed: bool
    """False when the signal is too bad for rhythm and intervals, which are then withheld."""


@dataclass(frozen=True)
class BeatsResult:
    """Beats of one block to be published; replaces what was published of it before."""

    key: Key
    block: int
    first_sample: int
    stop_sample: int
    start_us: int
    revision: int
    present: int
    """Samples of the block that were there."""
    runs: tuple[tuple[int, int], ...]
    """Where they were: [start, stop) from the block's first sample."""
    quality: str
    believed: bool
    beats: tuple[tuple[int, int, float | None], ...]
    """(sample, time in us, RR in ms or None)."""


@dataclass(frozen=True)
class Job:
    """Consecutive blocks of one line that are due, and the samples they need."""

    key: Key
    blocks: range
    first: int
    stop: int
    complete: bool
    """False: memory does not reach back to ``first``; the samples before ``floor`` are in the database."""


Results = tuple[list[BeatsResult], list[FeatureResult]]


@dataclass
class _State:
    line: Line
    offset: int = 0
    arrived_us: int = 0
    blocks: dict[int, Block] = field(default_factory=dict)
    due: set[int] = field(default_factory=set)
    forced: set[int] = field(default_factory=set)
    published: dict[int, tuple[object, ...]] = field(default_factory=dict)
    features: dict[tuple[str, int], FeatureResult] = field(default_factory=dict)
    idle: bool = False


class AnalysisCore:
    """All lines of the partitions in hand."""

    def __init__(self) -> None:
        self._states: dict[Key, _State] = {}
        self._partition: dict[Key, int] = {}
        self._moved: dict[Key, None] = {}
        """Lines of which a block may have become ready since they were last looked at; in order."""

    # --- packets in ------------------------------------------------------------------------------------------------

    def take(
        self,
        patient: str,
        message: Message,
        *,
        op: str,
        partition: int,
        offset: int,
        partial: bool,
        now_us: int,
        again: bool = False,
    ) -> None:
        """Take the ECG waveforms of one patient input.

        Parameters
        ----------
        op
            ``add`` or ``remove``.
        partition, offset
            Where the input stands in patient.inputs; the offset becomes the revision of what it changes.
        partial
            True when earlier inputs of this partition were not read, so that a line may have begun before.
        now_us
            Arrival, for telling when a recording has gone quiet.
        again
            True when history is run again: what depends on these samples is worked out, also if they are known.
        """
        for waveform in message.waveforms:
            if not waveform.channel.startswith(ECG):
                continue
            packet = packet_of(message, waveform)
            if packet is not None:
                key = self._key(patient, message.device, waveform)
                self._take(key, packet, op, partition, offset, partial, now_us, again)

    @staticmethod
    def _key(patient: str, device: str, w: Waveform) -> Key:
        return Key(patient, device, w.channel, w.recording, w.rate_num, w.rate_den)

    def _take(
        self, key: Key, packet: Packet, op: str, partition: int, offset: int, partial: bool, now_us: int, again: bool
    ) -> None:
        state = self._states.get(key)
        if state is None:
            floor = packet.first if partial else 0
            state = self._states[key] = _State(Line(key, floor=floor))
            self._partition[key] = partition
        state.arrived_us, state.idle = now_us, False
        touched = _depending(packet.first, packet.stop, key.fs)
        if op == "remove":
            state.line.remove(packet)
            state.forced.update(_blocks(packet.first, packet.stop, key.fs))
        elif not state.line.add(packet) and not again:
            return
        state.offset = offset
        state.due.update(touched)
        self._moved[key] = None
        if again:
            for block in touched:
                state.published.pop(block, None)
        if touched.start not in state.blocks and touched.start * detector.BLOCK_S * key.fs < state.line.floor:
            # Old samples: the windows they are in have to be made anew from the database, whole.
            for length in HRV_BLOCKS.values():
                for block in (touched.start, touched.stop - 1):
                    state.due.update(range(block // length * length, (block // length + 1) * length))

    def restore(self, key: Key, number: int, block: Block, digest: tuple[object, ...], partition: int) -> None:
        """Take over a block as it was published before a restart: it is not worked out again unless a packet asks."""
        state = self._states.get(key)
        if state is None:
            # No packet of it was read back: whatever comes next may have older samples before it.
            state = self._states[key] = _State(Line(key, floor=_start(number + 1, key.fs)), idle=True)
            self._partition[key] = partition
        state.blocks[number] = block
        state.published[number] = digest
        state.due.discard(number)

    def restore_feature(self, feature: FeatureResult) -> None:
        """Take over a feature as it was published before a restart."""
        state = self._states.get(feature.key)
        if state is not None:
            state.features[feature.identity] = feature

    def drop(self, partitions: frozenset[int]) -> None:
        """Forget the lines of partitions that are no longer ours."""
        for key in [key for key, partition in self._partition.items() if partition in partitions]:
            del self._states[key], self._partition[key]
            self._moved.pop(key, None)

    # --- blocks out ------------------------------------------------------------------------------------------------

    def go_idle(self, before_us: int) -> None:
        """Recordings from which nothing has come since ``before_us`` are finished with what there is."""
        for key, state in self._states.items():
            if not state.idle and state.arrived_us < before_us:
                state.idle = True
                self._moved[key] = None

    def jobs(self) -> list[Job]:
        """What is due now, in runs of consecutive blocks."""
        found = []
        for key in list(self._moved):
            state = self._states[key]
            line, fs = state.line, key.fs
            if state.idle:
                last = _block_of(line.high - 1, fs)
            else:
                last = int((line.high - detector.AFTER_S * fs) // (detector.BLOCK_S * fs)) - 1
            ready = sorted(block for block in state.due if block <= last)
            if state.idle:
                state.due.difference_update([block for block in state.due if block > last])
            if not ready:
                del self._moved[key]
            for run in _runs(ready):
                if _start(run.start, fs) - detector.BEFORE_S * fs < line.floor:
                    # What is made anew from the database needs its neighbours too, for the rhythm across blocks.
                    run = range(max(0, run.start - 2), run.stop)
                first = max(0, _start(run.start, fs) - int(detector.BEFORE_S * fs))
                stop = _start(run.stop, fs) + int(detector.AFTER_S * fs)
                found.append(Job(key, run, first, stop, complete=first >= line.floor))
        return found

    def run(self, job: Job, further: Iterable[Packet] = ()) -> Results:
        """Work a job out; ``further`` are its samples from the database. Only what changed is given back."""
        return self.run_together([(job, list(further))])

    def run_together(self, jobs: Sequence[tuple[Job, list[Packet]]]) -> Results:
        """Work out jobs with their samples from the database, those of one rate in one pass over the signals."""
        by_rate: dict[float, list[tuple[Job, list[Packet]]]] = {}
        for job, further in jobs:
            if job.key in self._states:
                by_rate.setdefault(job.key.fs, []).append((job, further))
        beats: list[BeatsResult] = []
        features: list[FeatureResult] = []
        for fs, alike in by_rate.items():
            pieces = [self._piece(job, further) for job, further in alike]
            blocks = _work_out(pieces, [job.blocks for job, _ in alike], fs)
            for (job, further), worked_out in zip(alike, blocks, strict=True):
                own_beats, own_features = self._conclude(job, further, worked_out)
                beats += own_beats
                features += own_features
        return beats, features

    def _piece(self, job: Job, further: list[Packet]) -> Piece:
        line, fs = self._states[job.key].line, job.key.fs
        if not job.complete and all(packet.first >= line.floor for packet in further):
            line.floor = 0  # nothing was there before what is in memory
        samples = line.window(job.first, job.stop, further)
        return Piece(samples, job.first, _start(job.blocks.start, fs), _start(job.blocks.stop, fs))

    def _conclude(self, job: Job, further: list[Packet], blocks: dict[int, Block]) -> Results:
        state = self._states[job.key]
        state.blocks.update(blocks)
        beats = self._beats(state, job.blocks, further)
        features = self._features(state, job.blocks, further)
        state.due.difference_update(job.blocks)
        state.forced.difference_update(job.blocks)
        self._forget(state)
        return beats, features

    def _beats(self, state: _State, blocks: range, further: list[Packet]) -> list[BeatsResult]:
        results = []
        fs, line = state.line.key.fs, state.line
        # The first interval of the block behind depends on the last beat here.
        for block in range(blocks.start, blocks.stop + 1):
            result = state.blocks.get(block)
            if result is None:
                continue
            listed = self._intervals(result, state.blocks.get(block - 1), fs)
            timed = tuple((sample, line.time_us(sample, further), rr) for sample, rr in listed)
            present = int(np.count_nonzero(result.present))
            digest = beats_digest(present, result.quality, timed)
            known = state.published.get(block)
            if known == digest or (known is None and not present and block not in state.forced):
                continue
            state.published[block] = digest
            first = _start(block, fs)
            start_us = line.time_us(first, further) if line.packets or further else 0
            results.append(
                BeatsResult(
                    line.key, block, first, _start(block + 1, fs), start_us, state.offset, present,
                    _true_runs(result.present), result.quality, result.believed, timed,
                )
            )  # fmt: skip
        return results

    @staticmethod
    def _intervals(block: Block, before: Block | None, fs: float) -> list[tuple[int, float | None]]:
        """(sample, RR in ms to the beat before) of the beats of a block; None where signal is missing in between."""
        beats, present = block.beats, block.present
        if before is not None and len(before.beats):
            beats = np.concatenate([before.beats[-1:], beats])
            present = np.concatenate([before.present, present])
        if not len(block.beats):
            return []
        so_far = np.concatenate([[0], np.cumsum(~present)])
        origin = _start(_block_of(int(beats[0]), fs), fs)
        missing = np.diff(so_far[beats - origin])
        known = [
            round(float(length) * 1000 / fs, 3) if lost <= MISSING_S * fs else None
            for length, lost in zip(np.diff(beats), missing, strict=True)
        ]
        if len(known) < len(block.beats):
            known.insert(0, None)
        return list(zip(block.beats.tolist(), known, strict=True))

    def _features(self, state: _State, blocks: range, further: list[Packet]) -> list[FeatureResult]:
        fs, line = state.line.key.fs, state.line
        if not line.packets and not further:
            return self._withdrawn(
                state, {}, lambda sample: _start(blocks.start, fs) <= sample < _start(blocks.stop, fs)
            )
        fresh: dict[tuple[str, int], FeatureResult] = {}
        low, high = blocks.start - 2, blocks.stop + 2
        there = [block for block in range(low, high) if block in state.blocks and self._neighbours(state, block)]

        def clock(sample: int) -> int:
            return line.time_us(sample, further)

        for block in there:
            near = {k: state.blocks[k] for k in range(block - 2, block + 3) if k in state.blocks}
            for feature in block_features(line.key, block, near, clock, state.offset):
                fresh[feature.identity] = feature
        covered = set(there)
        changed = self._differing(state, fresh)
        changed += self._withdrawn(
            state, fresh, lambda sample: _block_of(sample, fs) in covered, names=("event.", "heart_rate")
        )
        for name, length in HRV_BLOCKS.items():
            windows: dict[tuple[str, int], FeatureResult] = {}
            numbers = range(blocks.start // length, (blocks.stop - 1) // length + 1)
            for number in numbers:
                members = range(number * length, (number + 1) * length)
                unknown = any(k not in state.blocks and _start(k, fs) < line.floor for k in members)
                if (members[-1] in state.blocks or state.idle) and not unknown:
                    near = {k: state.blocks[k] for k in members if k in state.blocks}
                    for feature in window_features(line.key, name, members, near, clock, state.offset):
                        windows[feature.identity] = feature
            changed += self._differing(state, windows)
            inside = range(_start(numbers.start * length, fs), _start(numbers.stop * length, fs)).__contains__
            changed += self._withdrawn(state, windows, inside, names=(name + ".",))
        return changed

    @staticmethod
    def _neighbours(state: _State, block: int) -> bool:
        """Whether the two blocks before are known, or known to be empty."""
        before = range(max(0, block - 2), block)
        return all(k in state.blocks or _start(k, state.line.key.fs) >= state.line.floor for k in before)

    @staticmethod
    def _differing(state: _State, fresh: dict[tuple[str, int], FeatureResult]) -> list[FeatureResult]:
        changed = [f for f in fresh.values() if f.identity not in state.features or state.features[f.identity] != f]
        state.features.update({feature.identity: feature for feature in changed})
        return changed

    @staticmethod
    def _withdrawn(
        state: _State,
        fresh: dict[tuple[str, int], FeatureResult],
        inside: Callable[[int], bool],
        names: tuple[str, ...] = ("",),
    ) -> list[FeatureResult]:
        """Published features of these names that begin inside and are not among the fresh ones: taken back."""
        gone = [
            feature
            for identity, feature in state.features.items()
            if identity not in fresh and identity[0].startswith(names) and inside(identity[1])
        ]
        for feature in gone:
            del state.features[feature.identity]
        return [feature.withdraw(state.offset) for feature in gone]

    @staticmethod
    def _forget(state: _State) -> None:
        fs, line = state.line.key.fs, state.line
        oldest_due = min(state.due, default=None)
        keep_from = line.high - int(KEEP_S * fs)
        if oldest_due is not None:
            keep_from = min(keep_from, _start(oldest_due, fs) - int(detector.BEFORE_S * fs))
        line.forget_before(keep_from)
        newest = max(state.blocks, default=0)
        for table in (state.blocks, state.published):
            for block in [block for block in table if block < newest - KEEP_BLOCKS]:
                del table[block]
        edge = _start(newest - KEEP_BLOCKS, fs)
        for identity in [identity for identity in state.features if identity[1] < edge]:
            del state.features[identity]

    def lines(self) -> int:
        """How many lines are in memory."""
        return len(self._states)

    def retire(self, before_us: int) -> None:
        """Forget lines that have been finished and quiet since ``before_us``."""
        for key in [k for k, s in self._states.items() if s.idle and not s.due and s.arrived_us < before_us]:
            del self._states[key], self._partition[key]
            self._moved.pop(key, None)


def _work_out(pieces: list[Piece], blocks: list[range], fs: float) -> list[dict[int, Block]]:
    """The blocks of each piece."""
    beats = find_beats_apart(pieces, fs)
    cut = [
        (low, piece.samples[low - piece.first : _start(block + 1, fs) - piece.first])
        for piece, own in zip(pieces, blocks, strict=True)
        for block in own
        for low in (_start(block, fs),)
    ]
    graded = iter(zip(cut, quality_apart(cut, fs), strict=True))
    found: list[dict[int, Block]] = []
    for at, own in zip(beats, blocks, strict=True):
        found.append({})
        for block in own:
            (low, samples), stretch = next(graded)
            inside = at[(at >= low) & (at < low + len(samples))]
            found[-1][block] = Block(
                inside, ~np.isnan(samples), str(stretch.grade.value), _believed(stretch, len(inside))
            )
    return found


def _believed(stretch: Stretch, beats: int) -> bool:
    """Whether rate and rhythm are told from a stretch: not where it is clipped, nor where an electrode is off.

    A long pause makes a stretch look flat or noisy, so with beats in it, it is believed; its quality is given with it.
    """
    if stretch.grade is not Grade.BAD:
        return True
    return stretch.reason is not Reason.SATURATED and beats > 0


def beats_digest(present: int, quality: str, beats: tuple[tuple[int, int, float | None], ...]) -> tuple[object, ...]:
    """What makes two results of one block the same."""
    return (present, quality, beats)


def _true_runs(mask: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple((int(low), int(high)) for low, high in edges.reshape(-1, 2))


def _start(block: int, fs: float) -> int:
    return round(block * detector.BLOCK_S * fs)


def _block_of(sample: int, fs: float) -> int:
    block = int(sample // (detector.BLOCK_S * fs))
    while _start(block + 1, fs) <= sample:
        block += 1
    while _start(block, fs) > sample:
        block -= 1
    return block


def _blocks(first: int, stop: int, fs: float) -> range:
    """Blocks that hold samples [first, stop)."""
    return range(_block_of(first, fs), _block_of(max(first, stop - 1), fs) + 1)


def _depending(first: int, stop: int, fs: float) -> range:
    """Blocks whose beats depend on samples [first, stop)."""
    low = _block_of(max(0, first - int(np.ceil(detector.AFTER_S * fs))), fs)
    return range(low, _block_of(stop - 1 + int(np.ceil(detector.BEFORE_S * fs)), fs) + 1)


def _runs(blocks: list[int]) -> list[range]:
    runs: list[range] = []
    for block in blocks:
        if runs and runs[-1].stop == block:
            runs[-1] = range(runs[-1].start, block + 1)
        else:
            runs.append(range(block, block + 1))
    return runs
