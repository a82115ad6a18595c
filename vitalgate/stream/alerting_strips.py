"""The newest seconds of each ECG, so that an alert can carry the strip it is about. Pure, bounded, not remembered."""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque

from vitalgate.alerts.events import AlertEvent
from vitalgate.devices.records import PatientInput, Waveform

#: A rhythm event is told up to half a minute after it happened.
KEEP_S = 60.0
MAX_BYTES = 48 * 1024 * 1024

Key = tuple[str, str, str]


class Strips:
    """Blocks by (device, channel, recording), the newest of each; those not written to for longest go first."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._blocks: OrderedDict[Key, deque[Waveform]] = OrderedDict()
        self._max = max_bytes
        self.bytes = 0

    def take(self, record: PatientInput) -> None:
        """Keep the ECG blocks of a message."""
        if record.op != "add":
            return
        for block in record.message.waveforms:
            if block.channel.startswith("ecg."):
                self._put((record.message.device, block.channel, block.recording), block)

    def _put(self, key: Key, block: Waveform) -> None:
        kept = self._blocks.setdefault(key, deque())
        self._blocks.move_to_end(key)
        kept.append(block)
        self.bytes += len(block.samples)
        per_s = block.rate_num / block.rate_den
        newest = max(one.first_sample + one.count for one in kept)
        while kept and kept[0].first_sample + kept[0].count < newest - KEEP_S * per_s:
            self.bytes -= len(kept.popleft().samples)
        while self.bytes > self._max and self._blocks:
            _, dropped = self._blocks.popitem(last=False)
            self.bytes -= sum(len(one.samples) for one in dropped)

    def attach(self, event: AlertEvent) -> AlertEvent:
        """The event with the samples of its strip, when at least some are at hand."""
        strip = event.strip
        if strip is None or event.happened != "raised":
            return event
        blocks = self._blocks.get((strip.device_id, strip.channel, strip.recording), ())
        samples: list[int | None] = [None] * (strip.stop_sample - strip.first_sample)
        found: Waveform | None = None
        for block in blocks:
            begin = max(block.first_sample, strip.first_sample)
            stop = min(block.first_sample + block.count, strip.stop_sample)
            if begin >= stop:
                continue
            found = block
            values = array("i", block.samples)
            at = begin - strip.first_sample
            samples[at : at + stop - begin] = values[begin - block.first_sample : stop - block.first_sample]
            for start, length in block.missing or ():
                for k in range(max(start, begin - block.first_sample), min(start + length, stop - block.first_sample)):
                    samples[block.first_sample + k - strip.first_sample] = None
        if found is None:
            return event
        told = strip.model_copy(
            update={"samples": samples, "unit": found.unit, "gain": found.gain, "offset": found.offset}
        )
        return event.model_copy(update={"strip": told})
