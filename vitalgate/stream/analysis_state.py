"""What is in memory of one line, and what of it a changed block makes due. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vitalgate.signal import beats as detector
from vitalgate.stream import analysis_atrial as atrial
from vitalgate.stream.analysis_block import AFTER_S, BEFORE_S, CONTEXT, Block
from vitalgate.stream.analysis_features import AROUND, FeatureResult
from vitalgate.stream.analysis_grid import block_of, runs, start_of
from vitalgate.stream.analysis_line import Key, Line
from vitalgate.stream.analysis_models import REACH_S, cut_forms
from vitalgate.stream.analysis_windows import LONGEST

#: Packets are kept in memory this long behind the newest sample, seconds.
KEEP_S = 90.0
#: Blocks before and after those that changed whose features may change, and that have to be known for these features.
BACK, AHEAD = max(AROUND, atrial.REACH_AFTER), max(AROUND, atrial.REACH_BEFORE)
NEED_BEFORE = max(2 * AROUND, BACK + atrial.REACH_BEFORE)
NEED_AFTER = max(2 * AROUND, AHEAD + atrial.REACH_AFTER)
#: Results of this many blocks are kept in memory: the longest window and what its burden hangs on, twice.
KEEP_BLOCKS = 2 * LONGEST + NEED_BEFORE + NEED_AFTER
#: Forms of so many blocks before are needed: by classes, and by verdicts on fibrillation.
FORMS_BEFORE = max(CONTEXT, atrial.BEFORE + atrial.AFTER)
KEEP_FORMS = FORMS_BEFORE + 4


@dataclass(frozen=True)
class Job:
    """Consecutive blocks of one line that are due, and the samples they need.

    Attributes
    ----------
    blocks
        Those that are published.
    around
        Those that have to be worked out: ``blocks``, and neighbours that are not in memory.
    first, stop
        Samples that are needed.
    complete
        False: memory does not reach back to ``first``; the samples before ``floor`` are in the database.
    """

    key: Key
    blocks: range
    around: range
    first: int
    stop: int
    complete: bool


@dataclass
class State:
    """One line: its packets, its blocks, and what has been published of them.

    Attributes
    ----------
    anchors
        Event time of the first sample of each block, microseconds.
    received_us
        When the packet at ``offset`` arrived from the device.
    live
        Blocks that are not final yet, by the samples that there were when they were last looked at.
    live_high
        How far the samples went then.
    given
        Newest revision given of each feature (by identity) and block (by number), also of those taken back.
    """

    line: Line
    offset: int = 0
    arrived_us: int = 0
    received_us: int = 0
    blocks: dict[int, Block] = field(default_factory=dict)
    verdicts: dict[int, atrial.Verdict] = field(default_factory=dict)
    due: set[int] = field(default_factory=set)
    forced: set[int] = field(default_factory=set)
    published: dict[int, tuple[object, ...]] = field(default_factory=dict)
    features: dict[tuple[str, int], FeatureResult] = field(default_factory=dict)
    anchors: dict[int, int] = field(default_factory=dict)
    live: dict[int, Block] = field(default_factory=dict)
    live_high: int = 0
    idle: bool = False
    given: dict[tuple[str, int] | int, int] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Which line it is."""
        return self.line.key

    def last_ready(self) -> int:
        """The last block that is final by the samples there are."""
        fs = self.key.fs
        if self.idle:
            return block_of(self.line.high - 1, fs)
        return int((self.line.high - AFTER_S * fs) // (detector.BLOCK_S * fs)) - 1

    def known(self, block: int) -> bool:
        """Whether what is to be known of a block is in memory: its result, or that nothing is there yet or was."""
        if block < 0 or block in self.blocks or block > self.last_ready():
            return True
        return start_of(block, self.key.fs) >= self.line.floor and block >= self.oldest()

    def all_known(self, blocks: range, found: Container[int]) -> bool:
        """Whether everything about these blocks is known; ``found`` are known besides."""
        return all(block in found or self.known(block) for block in blocks)

    def oldest(self) -> int:
        """The oldest block that memory may hold."""
        return max(self.blocks, default=0) - KEEP_BLOCKS

    def jobs(self) -> list[Job]:
        """What is due now, in runs of consecutive blocks."""
        fs, line = self.key.fs, self.line
        last = self.last_ready()
        ready = sorted(block for block in self.due if block <= last)
        if self.idle:
            self.due.difference_update([block for block in self.due if block > last])
        found = []
        for run in runs(ready):
            around = run
            needed = range(max(0, run.start - NEED_BEFORE), min(last + 1, run.stop + NEED_AFTER))
            if not all(map(self.known, needed)):
                # Old samples: their neighbours have to be made anew too.
                around = range(max(0, needed.start - CONTEXT), max(run.stop, needed.stop))
            else:
                near = range(run.start - FORMS_BEFORE, run.stop + atrial.BEFORE + atrial.AFTER)
                lacking = [k for k in near if k in self.blocks and not self._cut(k)]
                around = range(min([run.start, *lacking]), max([run.stop, *(k + 1 for k in lacking)]))
            first = max(0, start_of(around.start, fs) - int(BEFORE_S * fs))
            stop = start_of(around.stop, fs) + int(AFTER_S * fs)
            found.append(Job(self.key, run, around, first, stop, complete=first >= line.floor))
        return found

    def _cut(self, block: int) -> bool:
        """Whether the forms of a block are there, cut anew if they can be: if its samples are in memory."""
        known = self.blocks[block]
        if known.forms is not None or not len(known.beats):
            return True
        fs = self.key.fs
        first = max(0, start_of(block, fs) - int(REACH_S * fs))
        if first < self.line.floor:
            return False
        samples = self.line.window(first, start_of(block + 1, fs) + int(REACH_S * fs))
        self.blocks[block] = replace(known, forms=cut_forms(samples, fs, known.beats, first))
        return True

    def depend_on(self, first: int, stop: int) -> range:
        """Samples [first, stop) are new: the blocks that hang on them are due. Gives those whose evidence does."""
        fs = self.key.fs
        touched = depending(first, stop, fs)
        # Classes of later beats hang on these; of what is not worked out yet they will, in time.
        later = range(touched.stop, touched.stop + CONTEXT)
        self.due.update(touched)
        self.due.update(block for block in later if block in self.blocks)
        if touched.start not in self.blocks and start_of(touched.start, fs) < self.line.floor:
            # Old samples: the windows they are in have to be made anew from the database, whole.
            self.due.update(whole_windows(range(touched.start - BACK, later.stop + AHEAD)))
            self.due = {block for block in self.due if block >= 0}
        return touched

    def rising(self, what: tuple[str, int] | int, revision: int) -> int:
        """The revision under which something is given out now: this one, unless that or a higher one was given.

        A recording that goes quiet, or older samples that are there at last, change results without a further packet
        that would raise the revision; and of two results of one revision whoever reads them keeps the first.
        """
        self.given[what] = max(revision, self.given.get(what, -1) + 1)
        return self.given[what]

    def differing(self, fresh: Mapping[tuple[str, int], FeatureResult]) -> list[FeatureResult]:
        """Of these features the ones that are not as they were; they are taken over."""
        changed = [
            replace(f, revision=self.rising(f.identity, f.revision))
            for f in fresh.values()
            if self.features.get(f.identity) != f
        ]
        self.features.update({feature.identity: feature for feature in changed})
        return changed

    def withdrawn(
        self,
        fresh: Iterable[tuple[str, int]],
        inside: Callable[[int], bool],
        names: tuple[str, ...],
        revision: int,
        *,
        but: str = "",
        provisional: bool = False,
    ) -> list[FeatureResult]:
        """Known features of these names (all but one) that begin inside and are not among the fresh ones: taken back.

        With ``provisional`` only such as are.
        """
        kept = set(fresh)
        gone = [
            feature
            for identity, feature in self.features.items()
            if identity not in kept
            and identity[0].startswith(names)
            and identity[0] != but
            and inside(identity[1])
            and (feature.provisional or not provisional)
        ]
        for feature in gone:
            del self.features[feature.identity]
        return [feature.withdraw(self.rising(feature.identity, revision)) for feature in gone]

    def forget(self) -> None:
        """Drop what nothing that comes next hangs on."""
        fs, line = self.key.fs, self.line
        keep_from = line.high - int(KEEP_S * fs)
        if self.due:
            keep_from = min(keep_from, start_of(min(self.due), fs) - int(BEFORE_S * fs))
        line.forget_before(keep_from)
        newest = max(self.blocks, default=0)
        for block in [block for block in self.blocks if block < newest - KEEP_BLOCKS]:
            del self.blocks[block]
            self.published.pop(block, None)
        for table in (self.verdicts, self.anchors):
            for block in [block for block in table if block < newest - KEEP_BLOCKS]:
                del table[block]
        for block in range(newest - KEEP_BLOCKS, newest - KEEP_FORMS):
            if block in self.blocks and self.blocks[block].forms is not None:
                self.blocks[block] = self.blocks[block].without_forms()
        edge = start_of(newest - KEEP_BLOCKS, fs)
        for identity in [identity for identity in self.features if identity[1] < edge]:
            del self.features[identity]
        for what in [w for w in self.given if (w < newest - KEEP_BLOCKS if isinstance(w, int) else w[1] < edge)]:
            del self.given[what]


def depending(first: int, stop: int, fs: float) -> range:
    """Blocks whose evidence depends on samples [first, stop)."""
    low = block_of(max(0, first - int(np.ceil(AFTER_S * fs))), fs)
    return range(low, block_of(stop - 1 + int(np.ceil(BEFORE_S * fs)), fs) + 1)


def whole_windows(blocks: range) -> range:
    """The blocks of every window that these are in."""
    return range(max(0, blocks.start // LONGEST * LONGEST), -(-blocks.stop // LONGEST) * LONGEST)
