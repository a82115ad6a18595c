"""One line of samples (a patient's device, channel and recording) in memory: packets, what is present, and when. Pure.

A *packet* is what one waveform item brought. Where packets overlap, the later one in the device's own order stands,
whatever order they arrived in, so that the samples in memory are a function of the set of packets.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vitalgate.devices.records import Message, Waveform

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

#: What a unit of potential is in mV.
MILLIVOLTS = {"mV": 1.0, "uV": 0.001, "V": 1000.0}


@dataclass(frozen=True, order=True)
class Key:
    """Which line a packet belongs to."""

    patient: str
    device: str
    channel: str
    recording: str
    rate_num: int
    rate_den: int

    @property
    def fs(self) -> float:
        """Sampling rate, Hz."""
        return self.rate_num / self.rate_den


@dataclass(frozen=True, eq=False)
class Packet:
    """Consecutive samples of one line.

    Attributes
    ----------
    first, stop
        Absolute samples [first, stop).
    order
        Place in the device's own order: (epoch number, order, item).
    start_us
        Event time of the first sample, microseconds since 1970.
    samples
        float32, mV; NaN where the device marked samples as not measured.
    """

    first: int
    stop: int
    order: tuple[int, int, int]
    start_us: int
    samples: Float

    @property
    def identity(self) -> tuple[int, int, tuple[int, int, int]]:
        """Packets of the same identity are the same packet, sent or delivered again."""
        return self.first, self.stop, self.order


def millivolts(raw: NDArray[np.integer], offset: float, gain: float, unit: str) -> Float | None:
    """Raw samples in mV, float32; None when the unit is none of electric potential."""
    factor = MILLIVOLTS.get(unit)
    if factor is None or not gain:
        return None
    return ((raw - offset) * (factor / gain)).astype(np.float32)


def packet_of(message: Message, waveform: Waveform) -> Packet | None:
    """The packet of a waveform item in mV; None when its unit is none of electric potential."""
    raw = np.frombuffer(waveform.samples, dtype="<i4")
    samples = millivolts(raw, waveform.offset, waveform.gain, waveform.unit)
    if samples is None:
        return None
    for start, length in waveform.missing or ():
        samples[start : start + length] = np.nan
    first = waveform.first_sample
    order = (message.epoch_no, message.order, waveform.item)
    return Packet(first, first + len(samples), order, waveform.start_us, samples)


def _first(packet: Packet) -> int:
    return packet.first


def _by_first(packet: Packet) -> tuple[int, tuple[int, int, int]]:
    return packet.first, packet.order


@dataclass
class Line:
    """The packets of one line that are in memory.

    Attributes
    ----------
    floor
        Below this sample memory may lack packets that have been seen or stored before; 0 when nothing was forgotten.
    high
        The sample after the newest.
    longest
        Samples of the longest packet so far.
    """

    key: Key
    floor: int = 0
    high: int = 0
    longest: int = 0
    packets: list[Packet] = field(default_factory=list)

    def add(self, packet: Packet) -> bool:
        """Take a packet; False when it is in memory already."""
        at = bisect_right(self.packets, _by_first(packet), key=_by_first)
        if at and self.packets[at - 1].identity == packet.identity:
            return False
        insort(self.packets, packet, key=_by_first)
        self.high = max(self.high, packet.stop)
        self.longest = max(self.longest, packet.stop - packet.first)
        return True

    def remove(self, packet: Packet) -> None:
        """Forget one packet, because its samples are no longer this patient's."""
        self.packets = [other for other in self.packets if other.identity != packet.identity]

    def forget_before(self, sample: int) -> None:
        """Drop the packets that end at or before a sample."""
        dropped = [packet.stop for packet in self.packets if packet.stop <= sample]
        if dropped:
            self.packets = [packet for packet in self.packets if packet.stop > sample]
            self.floor = max(self.floor, *dropped)

    def window(self, first: int, stop: int, further: Iterable[Packet] = ()) -> Float:
        """Samples [first, stop) in mV, float32 (stop - first,), NaN where there are none.

        ``further`` are packets that are not kept, such as those read from the database; they are older than all.
        """
        out = np.full(stop - first, np.nan, np.float32)
        for packet in [*further, *sorted(self._overlapping(first, stop), key=lambda packet: packet.order)]:
            low, high = max(first, packet.first), min(stop, packet.stop)
            if low < high:
                out[low - first : high - first] = packet.samples[low - packet.first : high - packet.first]
        return out

    def _overlapping(self, first: int, stop: int) -> list[Packet]:
        low, end = self._reaching(first), bisect_right(self.packets, stop, key=_first)
        return [packet for packet in self.packets[low:end] if packet.stop > first and packet.first < stop]

    def _near(self, sample: int) -> list[Packet]:
        """Packets among which the nearest to a sample is: those that cover it, the last before it, or the first."""
        at = bisect_right(self.packets, sample, key=_first)
        if not at:
            return self.packets[: bisect_right(self.packets, self.packets[0].first, key=_first)] if self.packets else []
        return self.packets[min(self._reaching(sample), at - 1) : at]

    def _reaching(self, sample: int) -> int:
        """Index before which no packet reaches beyond a sample."""
        return bisect_right(self.packets, sample - self.longest, key=_first)

    def time_us(self, sample: int, further: Iterable[Packet] = ()) -> int:
        """Event time of a sample: by the packet that covers it, else by the one before it, else by the next.

        Raises
        ------
        ValueError
            When there is no packet at all.
        """
        candidates = [*further, *self._near(sample)]
        if not candidates:
            raise ValueError(f"{self.key}: no packet tells the time of sample {sample}")
        best = max(candidates, key=lambda packet: _nearness(packet, sample))
        return best.start_us + (sample - best.first) * self.key.rate_den * 1_000_000 // self.key.rate_num


def _nearness(packet: Packet, sample: int) -> tuple[int, int, tuple[int, int, int]]:
    if packet.first <= sample < packet.stop:
        return 2, 0, packet.order
    if packet.first <= sample:
        return 1, packet.first, packet.order
    return 0, -packet.first, packet.order
