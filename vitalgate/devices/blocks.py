"""One waveform block, from the device's words to int32 samples on the recording's grid, or the reason why not."""

from __future__ import annotations

import difflib
import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from vitalgate.devices import samples
from vitalgate.devices.catalogue import Channel, Kind
from vitalgate.devices.context import Context
from vitalgate.devices.envelope import MAX_NUMBER
from vitalgate.devices.readings import flags, unknown_key, unknown_unit
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.records import Waveform
from vitalgate.devices.units import Unit, UnitError, exact, rational

KEYS: Final = frozenset(
    {"channel", "recording", "first_sample", "start", "rate", "gain", "offset", "unit", "samples", "missing", "flags"}
)
UNUSUAL: Final = "unusual_amplitude"
"""Flag put on a block with a sample outside the channel's unusual limits."""
MAX_MISSING: Final = 1000
_MAX_DENOMINATOR: Final = 1_000_000
_RECORDING: Final = re.compile(r"^[A-Za-z0-9._:-]{1,64}$", re.ASCII)


def read(item: int, document: Any, kind: Kind, context: Context, limit: int) -> Waveform:
    """The block that a document of the `waveforms` list says.

    Parameters
    ----------
    limit
        Samples that the message may still hold.

    Raises
    ------
    Refused
        With the reason; the text has the value, the limit and the remedy.
    """
    if type(document) is not dict:
        raise Refused(Reason.SCHEMA, f"a waveform is an object, not {show(document)}")
    if not document.keys() <= KEYS and (refused := unknown_key(document, KEYS, "the waveform")):
        raise refused
    get = document.get
    name = get("channel")
    channel = kind.channels.get(name) if type(name) is str else None
    if channel is None:
        raise _unknown_channel(name, kind)
    if "samples" not in document:
        raise Refused(Reason.WAVEFORM_SHAPE, "samples is missing; send the block's samples")
    block = samples.read(get("samples"), limit)
    rate = _rate(get("rate"), channel, context.sample_rate)
    gain, offset = _scale(document, channel)
    start_us, sent_us, offset_min = context.event(get("start"), "start")
    end_us = start_us + block.size * 1_000_000 * rate.denominator // rate.numerator
    if end_us > context.latest_us:
        raise Refused(
            Reason.TIME_UNEXPLAINED,
            f"the block's {block.size} samples end {(end_us - context.received_us) // 1_000_000} s after they arrived; "
            "check start and rate",
        )
    marks = flags(document["flags"]) if get("flags") is not None else []
    low, high = (block.low - offset) / gain, (block.high - offset) / gain
    if not (channel.low <= low and high <= channel.high):
        raise Refused(
            Reason.OUT_OF_RANGE,
            f"{channel.name} reaches from {low:g} to {high:g} {channel.unit}, outside {channel.low:g} to "
            f"{channel.high:g}; check gain, offset and unit",
        )
    if not (channel.unusual_low <= low and high <= channel.unusual_high) and UNUSUAL not in marks:
        marks.append(UNUSUAL)
    missing = _missing(get("missing"), block.size, block.missing)
    recording, first_sample = _place(document, channel, start_us, block.size, rate, context)
    return Waveform(
        item, channel.name, recording, first_sample, block.size, start_us, rate.numerator, rate.denominator, gain,
        offset, channel.unit, block.data, sent_us, offset_min, marks or None, missing,
    )  # fmt: skip


def _unknown_channel(name: Any, kind: Kind) -> Refused:
    if type(name) is not str:
        what = "missing" if name is None else show(name)
        return Refused(Reason.SCHEMA, f"channel is {what}; send its name as a text")
    close = difflib.get_close_matches(name[:60], kind.channels, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(kind.channels) or 'none'}"
    return Refused(Reason.UNKNOWN_CHANNEL, f"{kind.name} has no channel {show(name)}; {hint}")


def _rate(value: Any, channel: Channel, registered: Fraction | None) -> Fraction:
    if value is None:
        if registered is None:
            raise Refused(Reason.WAVEFORM_SHAPE, f"rate is missing; send it in Hz, such as {float(channel.rate):g}")
        rate: Fraction | None = registered
    else:
        kind = type(value)
        rate = _fraction(value) if kind is int or kind is float or kind is str else None
    if rate is None or rate.denominator > _MAX_DENOMINATOR:
        raise Refused(Reason.WAVEFORM_SHAPE, f"rate is {show(value)}; send Hz as a number or a text such as '1000/3'")
    if not channel.rate_min <= rate <= channel.rate_max:
        raise Refused(
            Reason.WAVEFORM_SHAPE,
            f"rate {show(value)} Hz is outside {float(channel.rate_min):g} to {float(channel.rate_max):g} Hz of "
            f"{channel.name}",
        )
    return rate


@lru_cache(maxsize=256)
def _fraction(value: float | str) -> Fraction | None:
    try:
        if isinstance(value, str):
            return rational(value) if len(value) <= 24 and "e" not in value.lower() else None
        return exact(value) if abs(value) < 1e9 else None
    except (UnitError, ValueError, ArithmeticError):
        return None


def _scale(document: dict[str, Any], channel: Channel) -> tuple[float, float]:
    """(gain in raw units per canonical unit, offset in raw units)."""
    gain: Any = document.get("gain")
    offset: Any = document.get("offset", 0)
    unit = document.get("unit")
    if type(gain) not in (int, float) or not 0 < gain < 1e12:
        what = "missing" if gain is None else show(gain)
        raise Refused(Reason.WAVEFORM_SHAPE, f"gain is {what}; send raw units per physical unit, a number above 0")
    if type(offset) not in (int, float) or not -(2**32) <= offset <= 2**32:
        raise Refused(Reason.WAVEFORM_SHAPE, f"offset is {show(offset)}; send the raw value of physical zero")
    known = channel.units.get(unit) if type(unit) is str else None
    if known is None:
        raise unknown_unit(unit, channel.units, channel.name)
    if not known.is_canonical:
        gain = _canonical_gain(gain, known)
    return float(gain), float(offset)


@lru_cache(maxsize=1024)
def _canonical_gain(gain: float, unit: Unit) -> float:
    return float(exact(gain) / unit.factor)


def _missing(value: Any, size: int, nulls: list[tuple[int, int]] | None) -> list[tuple[int, int]] | None:
    if value is None:
        return nulls
    if type(value) is not list or len(value) > MAX_MISSING:
        raise Refused(
            Reason.WAVEFORM_SHAPE, f"missing is {show(value)}; send at most {MAX_MISSING} pairs [start, length]"
        )
    out: list[tuple[int, int]] = list(nulls or ())
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not int:
            raise Refused(Reason.WAVEFORM_SHAPE, "missing holds something that is no pair [start, length]")
        start, length = pair
        if start < 0 or length < 1 or start + length > size:
            raise Refused(
                Reason.WAVEFORM_SHAPE, f"missing [{start}, {length}] does not lie within the block's {size} samples"
            )
        out.append((start, length))
    joined: list[tuple[int, int]] = []
    for start, length in sorted(out):
        if joined and start <= sum(joined[-1]):
            joined[-1] = (joined[-1][0], max(sum(joined[-1]), start + length) - joined[-1][0])
        else:
            joined.append((start, length))
    return joined or None


def _place(
    document: dict[str, Any], channel: Channel, start_us: int, size: int, rate: Fraction, context: Context
) -> tuple[str, int]:
    recording, first = document.get("recording"), document.get("first_sample")
    if recording is None and first is None:
        return context.placer.place(channel.name, start_us, size, rate, channel.rate)
    if recording is None or first is None:
        raise Refused(
            Reason.SCHEMA, "recording and first_sample go together; send both, or neither to have them told from start"
        )
    if type(recording) is not str or not _RECORDING.match(recording) or recording.startswith("auto-"):
        raise Refused(
            Reason.SCHEMA,
            f"recording is {show(recording)}; send 1 to 64 letters, digits or ._:- that do not begin with auto-",
        )
    if type(first) is not int or not 0 <= first <= MAX_NUMBER - size:
        raise Refused(
            Reason.SCHEMA, f"first_sample is {show(first)}; send the number of the block's first sample, from 0"
        )
    return recording, first


def physical(gain: float, offset: float, raw: int) -> float:
    """A raw sample in the block's unit: (raw - offset) / gain; NaN when the gain is 0."""
    return (raw - offset) / gain if gain else math.nan
