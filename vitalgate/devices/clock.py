"""A device's clock skew, told from when messages were sent (device clock) and received (our clock).

Sign: skew = device clock minus ours; it is *subtracted* from the device's times. A device whose clock is two hours
ahead has skew +7200 s.

`received - sent_at` is transit minus skew, and transit only ever adds. So:

- A message that makes the device look *ahead* is proof: nothing arrives before it is sent. Believed at once.
- A message that makes it look *behind* may only have waited in a queue. Believed when there is nothing else to go by
  (the first message of a device), when a later number bears an earlier time (the clock was set back), when the wait
  would exceed the longest backfill (a clock at 1970), or when it has stayed the same, within the tolerance, over
  BUCKETS stretches of BUCKET_S of arrival: a queue that drains does not stay the same.
- For a device that numbers nothing, a message sent and received at about the same time says that the clock is right.

Within the tolerance the skew counts as none. It is sticky: whole seconds, changed only when the estimate has moved
by more than the tolerance, so that a trembling estimate does not smear the times. And it is remembered *from which
message on* it holds, so that a message sent again gets the same times as when it was first seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

BUCKETS: Final = 6
BUCKET_S: Final = 30
MAX_STEPS: Final = 16
_SECOND: Final = 1_000_000

Step = tuple[int, int, int, int]
"""(raw offset, epoch_no, order, skew_s): from this message on the skew holds."""


class Clock(NamedTuple):
    """What is remembered of a device's clock."""

    skew_s: int = 0
    memory: tuple[int, ...] = ()
    """`sent` of the newest message, then (received, least received - sent) of up to BUCKETS stretches; in us."""
    steps: tuple[Step, ...] = ()


def observe(
    clock: Clock,
    *,
    received_us: int,
    sent_us: int,
    offset: int,
    epoch_no: int,
    order: int,
    newest: bool,
    tolerance_s: float,
    max_backfill_days: int,
) -> Clock:
    """The clock after one more message that bears `sent_at`.

    Parameters
    ----------
    newest
        The message is the latest in the device's own order so far (any message, when it numbers nothing).
    tolerance_s, max_backfill_days
        settings.intake.skew_tolerance_s and max_backfill_days.
    """
    tolerance = round(tolerance_s * _SECOND)
    delta = received_us - sent_us
    numbered = epoch_no > 0
    memory = clock.memory
    newest_sent, pairs = (memory[0], memory[1:]) if memory else (sent_us, ())
    alone = not pairs
    set_back = numbered and newest and sent_us < newest_sent - tolerance
    right = not numbered and -tolerance <= delta <= tolerance
    impossible_wait = delta > max_backfill_days * 86_400 * _SECOND
    ahead = not alone and delta < min(pairs[1::2]) - tolerance
    if set_back or right or impossible_wait or ahead:
        held = alone or not _same(pairs, delta, tolerance)
        pairs = (received_us, delta) if held else _added(pairs, received_us, delta)
        certain = True
    else:
        pairs = _added(pairs, received_us, delta)
        certain = alone
    lows = pairs[1::2]
    if not certain:
        settled = len(lows) >= BUCKETS and max(lows) - min(lows) <= tolerance
        certain = settled or -min(lows) > clock.skew_s * _SECOND
    estimate = -min(lows)
    skew_s = clock.skew_s
    if certain and abs(estimate - skew_s * _SECOND) > tolerance:
        skew_s = _whole_seconds(estimate) if abs(estimate) > tolerance else 0
    steps = clock.steps
    if not steps or steps[-1][3] != skew_s:
        steps = (*steps[-(MAX_STEPS - 1) :], (offset, epoch_no, order, skew_s))
    return Clock(skew_s, (sent_us if newest or not memory else newest_sent, *pairs), steps)


def _same(pairs: Sequence[int], delta: int, tolerance: int) -> bool:
    return abs(min(pairs[1::2]) - delta) <= tolerance


def _added(pairs: tuple[int, ...], received_us: int, delta: int) -> tuple[int, ...]:
    if pairs and received_us - pairs[-2] < BUCKET_S * _SECOND:
        return pairs if delta >= pairs[-1] else (*pairs[:-1], delta)
    return (*pairs[-2 * (BUCKETS - 1) :], received_us, delta)


def _whole_seconds(us: int) -> int:
    return (us + _SECOND // 2) // _SECOND


def in_force(clock: Clock, offset: int, epoch_no: int, order: int) -> int:
    """The skew, in seconds, that held for a message when it was first seen.

    Steps that came with a later raw offset did not exist then. Among the others the last one at or before the
    message in the device's own order counts; before the first, the first.
    """
    known = [step for step in clock.steps if step[0] <= offset]
    if not known:
        return clock.steps[0][3] if clock.steps else clock.skew_s
    if epoch_no > 0:
        numbered = [step for step in known if step[1] > 0]
        before = [step for step in numbered if (step[1], step[2]) <= (epoch_no, order)]
        chosen = before or numbered[:1]
        if chosen:
            return chosen[-1][3]
    return known[-1][3]
