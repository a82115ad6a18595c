"""What has been kept of a device's numbering: a prefix and ranges per epoch, and the receipt that tells it.

Numbers count up by one from 1 in each epoch (0 is accepted as a first number too). The prefix begins with a number 0
or 1 that was seen; whatever number is seen first otherwise stands as a range of its own, so that a receipt never
claims a number that was not kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, Final

from vitalgate.devices.records import DeviceSequences, Kept

MAX_EPOCHS: Final = 32
MAX_RANGES: Final = 1000
"""Ranges remembered beyond the prefix; more (a device that skips every other number) are forgotten from the top, and
so are asked for again: forgetting is safe, claiming is not."""
MAX_LOST: Final = 100
MAX_REJECTED: Final = 50
NOTHING: Final = -1
"""`through` of an epoch whose number 0 or 1 has not been seen."""

Ranges = list[tuple[int, int]]


def begin(state: DeviceSequences) -> DeviceSequences:
    """The state with nothing touched: call it once a batch, before the batch's first message of the device."""
    if not state.touched:
        return state
    return replace(state, touched=[])


def replace(state: DeviceSequences, **changes: Any) -> DeviceSequences:
    """A copy with other fields; the original and its lists stay as they are."""
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    return DeviceSequences(**{**fields, **changes})


def find(state: DeviceSequences, epoch: str) -> Kept | None:
    """What is known of an epoch, or None when it was never seen (or long ago)."""
    for kept in reversed(state.epochs):
        if kept.epoch == epoch:
            return kept
    return None


def contains(kept: Kept, seq: int) -> bool:
    """True when this number has been kept; numbers that were only declared lost have not."""
    if kept.lost and _inside(kept.lost, seq):
        return False
    if seq == 0:
        return kept.zero
    return seq <= kept.through or (bool(kept.beyond) and _inside(kept.beyond, seq))


def _inside(ranges: Ranges, number: int) -> bool:
    place = bisect_right(ranges, (number, 1 << 62)) - 1
    return place >= 0 and ranges[place][1] >= number


def add(kept: Kept, seq: int, now_us: int) -> Kept:
    """The epoch after keeping one more number."""
    lost, zero = kept.lost, kept.zero or seq == 0
    if lost and _inside(lost, seq):
        lost = _without(lost, seq)
        return Kept(kept.epoch, kept.epoch_no, kept.through, kept.beyond, lost, kept.gap_since_us, zero)
    through, beyond = kept.through, kept.beyond
    if seq == through + 1 or (through == NOTHING and seq == 1):
        if not beyond:  # nearly always
            return Kept(kept.epoch, kept.epoch_no, seq, beyond, lost, 0, zero)
        through, beyond = _absorbed(seq, beyond)
        return Kept(kept.epoch, kept.epoch_no, through, beyond, lost, now_us if beyond else 0, zero)
    if seq <= through or _inside(beyond, seq):
        if zero != kept.zero:
            return Kept(kept.epoch, kept.epoch_no, through, beyond, lost, kept.gap_since_us, zero)
        return kept
    beyond = _inserted(beyond, seq, seq)[:MAX_RANGES]
    return Kept(kept.epoch, kept.epoch_no, through, beyond, lost, kept.gap_since_us or now_us, zero)


def declare_lost(kept: Kept, numbers: Iterable[int], now_us: int) -> Kept:
    """The epoch after the device said that these numbers will never come; those kept already stay kept."""
    for number in numbers:
        if number == 0 or contains(kept, number) or _inside(kept.lost, number):
            continue
        before = kept
        kept = add(kept, number, now_us)
        if kept is not before and (number <= kept.through or _inside(kept.beyond, number)):
            kept.lost = _inserted(kept.lost, number, number)[-MAX_LOST:]
    return kept


def _absorbed(through: int, beyond: Ranges) -> tuple[int, Ranges]:
    taken = 0
    for start, stop in beyond:
        if start > through + 1:
            break
        through = max(through, stop)
        taken += 1
    return through, beyond[taken:]


def _inserted(ranges: Ranges, start: int, stop: int) -> Ranges:
    """Sorted closed ranges with one more, neighbours joined."""
    out: Ranges = []
    for low, high in ranges:
        if high < start - 1:
            out.append((low, high))
        elif low > stop + 1:
            if start <= stop:
                out.append((start, stop))
                start, stop = 1, 0
            out.append((low, high))
        else:
            start, stop = min(low, start), max(high, stop)
    if start <= stop:
        out.append((start, stop))
    return out


def _without(ranges: Ranges, number: int) -> Ranges:
    out: Ranges = []
    for low, high in ranges:
        if low <= number <= high:
            if low < number:
                out.append((low, number - 1))
            if number < high:
                out.append((number + 1, high))
        else:
            out.append((low, high))
    return out


def gaps(kept: Kept) -> Ranges:
    """The closed ranges of numbers that are missing below the highest number kept."""
    out: Ranges = []
    following = max(kept.through + 1, 1)
    for start, stop in kept.beyond:
        if start > following:
            out.append((following, start - 1))
        following = stop + 1
    return out


def receipts(state: DeviceSequences, since_us: int | None = None) -> list[dict[str, Any]]:
    """The receipts due for the epochs this state touches, each ready to be sent as JSON.

    Parameters
    ----------
    state
        A record of device.sequences.
    since_us
        Refusals that arrived at or after this time are told; give the `updated_us` of the last state a receipt was
        sent for, so that none is left out when several states are told as one. None: those of the last minute.

    Returns
    -------
    list of dict
        ``{"epoch", "kept_through", "beyond": [[a, b]…], "rejected": [{"seq", "reason", "detail"}…]}``.
        ``kept_through`` is -1 when no prefix is kept yet.
    """
    since = state.updated_us - 60_000_000 if since_us is None else since_us
    out = []
    for epoch in state.touched:
        kept = find(state, epoch)
        if kept is None:
            continue
        out.append(
            {
                "epoch": epoch,
                "kept_through": kept.through,
                "beyond": [[start, stop] for start, stop in kept.beyond[:100]],
                "rejected": [
                    {"seq": seq, "reason": reason, "detail": detail}
                    for (of, seq, reason, detail), at in zip(
                        state.rejected, state.rejected_us or [state.updated_us] * len(state.rejected), strict=False
                    )
                    if of == epoch and at >= since
                ],
            }
        )
    return out


def highest(kept: Kept) -> int:
    """The highest number kept or declared lost; -1 when there is none."""
    return kept.beyond[-1][1] if kept.beyond else kept.through


def with_epoch(epochs: list[Kept], kept: Kept) -> list[Kept]:
    """The epochs with one of them replaced or, when it is new, added; the oldest beyond MAX_EPOCHS are dropped."""
    for place in range(len(epochs) - 1, -1, -1):
        if epochs[place].epoch == kept.epoch:
            return [*epochs[:place], kept, *epochs[place + 1 :]]
    return [*epochs[-(MAX_EPOCHS - 1) :], kept]
