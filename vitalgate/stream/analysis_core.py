"""From packets of ECG samples to final blocks of beats and features: the analysis worker without its I/O. Pure.

The result of a block is a function of the set of samples only. A block is worked out when all the samples that it
depends on can be there (``high`` has passed its end by AFTER_S), or when its recording has gone quiet; a sample that
comes later, or is corrected or taken away, makes the blocks that depend on it due again. What is the same as before is
not given out again. Features of a block hang on its neighbours too: they are given with what is known, and again when
a neighbour changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitalgate.devices.records import Message, Waveform
from vitalgate.stream import analysis_atrial as atrial
from vitalgate.stream import analysis_live as live
from vitalgate.stream.analysis_beats import BeatsResult, block_beats
from vitalgate.stream.analysis_block import Block, Task, work_out
from vitalgate.stream.analysis_clock import BlockClock
from vitalgate.stream.analysis_features import AROUND, FeatureResult, block_features, revision_of
from vitalgate.stream.analysis_grid import block_of, blocks_of, runs, start_of
from vitalgate.stream.analysis_line import Key, Line, Packet, packet_of
from vitalgate.stream.analysis_state import Job, State
from vitalgate.stream.analysis_windows import (
    BURDEN_BLOCKS,
    COUNT_BLOCKS,
    COUNTS,
    HRV_BLOCKS,
    count_features,
    hrv_features,
)  # fmt: skip

ECG = "ecg."

Results = tuple[list[BeatsResult], list[FeatureResult]]


@dataclass(frozen=True, eq=False)
class _Worked:
    """A job that was worked out: all final blocks that are known round it, and what verdicts are due."""

    job: Job
    state: State
    clock: BlockClock
    final: Mapping[int, Block]
    asked: tuple[int, ...]


class AnalysisCore:
    """All lines of the partitions in hand."""

    def __init__(self) -> None:
        self._states: dict[Key, State] = {}
        self._partition: dict[Key, int] = {}
        self._moved: dict[Key, None] = {}
        """Lines of which a block may have become ready since they were last looked at; in order."""
        self._fresh: dict[Key, None] = {}
        """Lines that have samples which nobody has looked at yet."""

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
        wall_us: int | None = None,
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
            Arrival, for telling when a recording has gone quiet, on the clock of `go_idle` and `retire`: one that is
            never set.
        again
            True when history is run again: what depends on these samples is worked out, also if they are known.
        wall_us
            Arrival by the wall clock, which is when what is run again was received; `now_us` when not given.
        """
        for waveform in message.waveforms:
            if not waveform.channel.startswith(ECG):
                continue
            packet = packet_of(message, waveform)
            if packet is not None:
                key = self._key(patient, message.device, waveform)
                # What is run again does not become news of the day on which it was measured.
                received_us = (now_us if wall_us is None else wall_us) if again else message.received_us
                self._take(key, packet, op, partition, offset, partial, now_us, again, received_us)

    @staticmethod
    def _key(patient: str, device: str, w: Waveform) -> Key:
        return Key(patient, device, w.channel, w.recording, w.rate_num, w.rate_den)

    def _take(
        self, key: Key, packet: Packet, op: str, partition: int, offset: int, partial: bool, now_us: int, again: bool,
        received_us: int,
    ) -> None:  # fmt: skip
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = State(Line(key, floor=packet.first if partial else 0))
            self._partition[key] = partition
        state.arrived_us, state.idle = now_us, False
        if op == "remove":
            state.line.remove(packet)
            state.forced.update(blocks_of(packet.first, packet.stop, key.fs))
        elif not state.line.add(packet) and not again:
            return
        state.offset, state.received_us = offset, received_us
        touched = state.depend_on(packet.first, packet.stop)
        if again:
            for block in touched:
                state.published.pop(block, None)
        self._moved[key] = None
        self._fresh[key] = None

    def restore(
        self, key: Key, number: int, block: Block, digest: tuple[object, ...], start_us: int, partition: int,
        revision: int = 0,
    ) -> None:  # fmt: skip
        """Take over a block as it was published before a restart: it is not worked out again unless a packet asks."""
        state = self._states.get(key)
        if state is None:
            # No packet of it was read back: whatever comes next may have older samples before it.
            state = self._states[key] = State(Line(key, floor=start_of(number + 1, key.fs)), idle=True)
            self._partition[key] = partition
        state.blocks[number] = block
        state.anchors[number] = start_us
        state.published[number] = digest
        state.given[number] = max(revision, state.given.get(number, 0))
        state.due.discard(number)

    def restore_feature(self, feature: FeatureResult) -> None:
        """Take over a feature as it was published before a restart."""
        state = self._states.get(feature.key)
        if state is not None:
            state.features[feature.identity] = feature
            state.given[feature.identity] = max(feature.revision, state.given.get(feature.identity, 0))
            if feature.name == atrial.VERDICT and not feature.withdrawn:
                verdict = atrial.Verdict(feature.value == 1.0, feature.value is None)
                state.verdicts[block_of(feature.first_sample, feature.key.fs)] = verdict

    def drop(self, partitions: frozenset[int]) -> None:
        """Forget the lines of partitions that are no longer ours."""
        for key in [key for key, partition in self._partition.items() if partition in partitions]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        del self._states[key], self._partition[key]
        self._moved.pop(key, None)
        self._fresh.pop(key, None)

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
            jobs = self._states[key].jobs()
            if not jobs:
                del self._moved[key]
            found += jobs
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
            tasks = [self._task(job, further) for job, further in alike]
            worked = [
                self._settle(job, further, found)
                for (job, further), found in zip(alike, work_out(tasks, fs), strict=True)
            ]
            questions = [atrial.question(block, own.final, fs) for own in worked for block in own.asked]
            said = iter(atrial.verdicts(questions, fs))
            for own in worked:
                own.state.verdicts.update({block: next(said) for block in own.asked})
            for own in worked:
                beats += self._beats(own)
                features += self._features(own)
                own.state.forget()
        return beats, features

    def _task(self, job: Job, further: list[Packet]) -> Task:
        state = self._states[job.key]
        if not job.complete and all(packet.first >= state.line.floor for packet in further):
            state.line.floor = 0  # nothing was there before what is in memory
        samples = state.line.window(job.first, job.stop, further)
        return Task(job.around, job.first, samples, state.blocks)

    def _settle(self, job: Job, further: list[Packet], found: Mapping[int, Block]) -> _Worked:
        """Take the new blocks over."""
        state, blocks = self._states[job.key], job.blocks
        clock = BlockClock(state.line, state.anchors, further)
        for number, block in found.items():
            if number in blocks:
                state.blocks[number] = block
            elif number in state.blocks:
                state.blocks[number] = replace(state.blocks[number], forms=block.forms)
            clock.anchor(number, anew=number in blocks)
        state.due.difference_update(blocks)
        last = state.last_ready()
        state.live = {number: block for number, block in state.live.items() if number > last}
        final = {**found, **state.blocks}
        near = range(
            blocks.start - atrial.REACH_AFTER - atrial.EPISODE, blocks.stop + atrial.REACH_BEFORE + atrial.EPISODE
        )
        changed = range(blocks.start - atrial.AFTER, blocks.stop + atrial.BEFORE)
        asked = tuple(
            number
            for number in near
            if number in final
            and (number in changed or number not in state.verdicts)
            and (state.idle or number + atrial.AFTER <= last)
            and state.all_known(range(number - atrial.BEFORE, number + atrial.AFTER + 1), final)
            and atrial.answerable(number, final)
        )
        return _Worked(job, state, clock, final, asked)

    @staticmethod
    def _beats(own: _Worked) -> list[BeatsResult]:
        state, results = own.state, []
        # The first interval of the block behind depends on the last beat here.
        for number in range(own.job.blocks.start, own.job.blocks.stop + 1):
            block = state.blocks.get(number)
            if block is None:
                continue
            result = block_beats(state.line.key, number, block, own.final.get(number - 1), own.clock, state.offset)
            known = state.published.get(number)
            if known == result.digest or (known is None and not block.present and number not in state.forced):
                continue
            state.published[number] = result.digest
            results.append(replace(result, revision=state.rising(number, result.revision)))
        state.forced.difference_update(own.job.blocks)
        return results

    def _features(self, own: _Worked) -> list[FeatureResult]:
        state, key, blocks = own.state, own.job.key, own.job.blocks
        fs, revision = key.fs, revision_of(state.offset)
        near = {**state.live, **own.final}
        if not own.clock.knows():
            inside = range(start_of(blocks.start, fs), start_of(blocks.stop, fs)).__contains__
            return state.withdrawn((), inside, ("",), revision)
        there = [
            number
            for number in range(blocks.start - AROUND, blocks.stop + AROUND)
            if number in own.final and state.all_known(range(number - AROUND, number + AROUND + 1), own.final)
        ]
        fresh: dict[tuple[str, int], FeatureResult] = {}
        for run in runs(there):
            for feature in block_features(key, run, near, own.clock, revision):
                fresh[feature.identity] = feature
        covered = set(there)
        changed = state.differing(fresh)
        changed += state.withdrawn(
            fresh,
            lambda at: block_of(at, fs) in covered,
            ("event.", "heart_rate", "quality"),
            revision,
            but=atrial.NAME,
        )
        return changed + self._atrial(own, near, revision) + self._windows(own, revision)

    @staticmethod
    def _atrial(own: _Worked, near: Mapping[int, Block], revision: int) -> list[FeatureResult]:
        state, key, blocks = own.state, own.job.key, own.job.blocks
        wanted = range(blocks.start - atrial.REACH_AFTER, blocks.stop + atrial.REACH_BEFORE)
        inside = {
            number: within
            for number, within in atrial.in_episode(wanted, state.verdicts).items()
            if number in own.final and state.all_known(range(number - atrial.EPISODE, number), state.verdicts)
        }
        told = {number: state.verdicts[number] for number in own.asked}
        changed = state.differing({f.identity: f for f in atrial.verdict_features(key, told, own.clock, revision)})
        fresh = {f.identity: f for f in atrial.episode_features(key, inside, near, own.clock, revision)}
        gone = state.withdrawn(fresh, lambda at: block_of(at, key.fs) in inside, (atrial.NAME,), revision)
        return changed + state.differing(fresh) + gone

    @staticmethod
    def _windows(own: _Worked, revision: int) -> list[FeatureResult]:
        state, key, blocks, last = own.state, own.job.key, own.job.blocks, own.state.last_ready()
        changed: list[FeatureResult] = []

        def windows(length: int, low: int, high: int, behind: int) -> Iterable[range]:
            for number in range(max(0, low) // length, (high - 1) // length + 1):
                members = range(number * length, (number + 1) * length)
                told = state.idle or members[-1] + behind <= last
                if told and state.all_known(members, own.final):
                    yield members

        def give(members: range, features: list[FeatureResult], names: tuple[str, ...]) -> None:
            fresh = {feature.identity: feature for feature in features}
            inside = range(start_of(members.start, key.fs), start_of(members.stop, key.fs)).__contains__
            changed.extend(state.differing(fresh))
            changed.extend(state.withdrawn(fresh, inside, names, revision))

        for name, length in HRV_BLOCKS.items():
            for members in windows(length, blocks.start, blocks.stop, 0):
                give(members, hrv_features(key, name, members, own.final, own.clock, revision), (name + ".",))
        for members in windows(COUNT_BLOCKS, blocks.start, blocks.stop, 0):
            give(members, count_features(key, members, own.final, own.clock, revision), COUNTS)
        low, high = blocks.start - atrial.REACH_AFTER, blocks.stop + atrial.REACH_BEFORE
        for members in windows(BURDEN_BLOCKS, low, high, atrial.REACH_AFTER):
            burden = atrial.burden_features(key, members, state.verdicts, own.clock, revision)
            give(members, burden, atrial.BURDEN)
        return changed

    # --- what is not final yet -------------------------------------------------------------------------------------

    def live(self) -> list[FeatureResult]:
        """Urgent events in samples that no final block holds yet: provisional, until the block is final.

        Lines are looked at when live.STEP_S of samples has come since the last time.
        """
        by_rate: dict[float, list[State]] = {}
        for key in list(self._fresh):
            state = self._states[key]
            del self._fresh[key]
            if state.idle:
                continue
            if state.line.high - state.live_high < live.STEP_S * key.fs:
                continue
            by_rate.setdefault(key.fs, []).append(state)
        return [feature for fs, states in by_rate.items() for feature in live.urgent(states, fs)]

    def received_us(self, key: Key) -> int:
        """When the newest packet of a line arrived: the one that completed what is given out now. 0: not known."""
        state = self._states.get(key)
        return 0 if state is None else state.received_us

    def lines(self) -> int:
        """How many lines are in memory."""
        return len(self._states)

    def retire(self, before_us: int) -> None:
        """Forget lines that have been finished and quiet since ``before_us``."""
        for key in [k for k, s in self._states.items() if s.idle and not s.due and s.arrived_us < before_us]:
            self._drop(key)
