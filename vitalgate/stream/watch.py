"""Watch over devices: who sends too fast, and whose numbering has a gap that stays open. Pure; time is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from vitalgate.devices.records import DeviceSequences
from vitalgate.stream.audit_inbox import AuditEvent

#: A gap that is open this long is reported: a device resends what is missing much sooner.
GAP_US = 60_000_000
#: One device is reported as too fast at most this often.
AGAIN_US = 60_000_000


class DeviceWatch:
    """Counts messages of each device between two reports, and remembers open gaps."""

    def __init__(self, max_messages_per_s: float) -> None:
        self._limit = max_messages_per_s
        self._came: Counter[str] = Counter()
        self._since_us: int | None = None
        self._told_fast: dict[str, int] = {}
        self._open: dict[str, dict[str, int]] = {}
        self._told_gap: dict[str, set[tuple[str, int]]] = {}

    def reset(self, states: Iterable[DeviceSequences]) -> None:
        """Begin anew with these devices."""
        self._open.clear()
        self._came.clear()
        self.kept(states)

    def came(self, device: str) -> None:
        """A message of the device was taken."""
        self._came[device] += 1

    def kept(self, states: Iterable[DeviceSequences]) -> None:
        """The devices' new states."""
        for state in states:
            gaps = {kept.epoch: kept.gap_since_us for kept in state.epochs if kept.gap_since_us}
            if gaps:
                self._open[state.device] = gaps
            else:
                self._open.pop(state.device, None)
                self._told_gap.pop(state.device, None)

    def gaps(self) -> int:
        """Devices with an open gap."""
        return len(self._open)

    def report(self, now_us: int) -> Iterator[AuditEvent]:
        """What is to be told since the last report (microseconds since 1970)."""
        began, self._since_us = self._since_us, now_us
        came, self._came = self._came, Counter()
        if began is not None and now_us > began:
            seconds = (now_us - began) / 1e6
            most = self._limit * max(1.0, seconds)
            for device, count in came.items():
                if count > most and now_us - self._told_fast.get(device, -AGAIN_US) >= AGAIN_US:
                    self._told_fast[device] = now_us
                    yield AuditEvent(
                        "device.too_fast", "device", device, str(now_us),
                        {"messages": count, "seconds": round(seconds, 1), "limit_per_s": self._limit},
                    )  # fmt: skip
        for device, gaps in self._open.items():
            for epoch, since_us in gaps.items():
                told = self._told_gap.setdefault(device, set())
                if now_us - since_us >= GAP_US and (epoch, since_us) not in told:
                    told.add((epoch, since_us))
                    yield AuditEvent(
                        "device.sequence_gap", "device", device, f"{epoch} {since_us}",
                        {"epoch": epoch, "open_s": (now_us - since_us) // 1_000_000},
                    )  # fmt: skip
