"""One reading, from the device's words to a canonical value, or the reason why not."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from vitalgate.devices.catalogue import Kind, Metric
from vitalgate.devices.context import Context
from vitalgate.devices.envelope import MAX_NUMBER
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.records import NO_SEQ, Corrects, Dead, Reading
from vitalgate.devices.units import NOT_UCUM, Unit, to_canonical

KEYS: Final = frozenset(
    {"metric", "value", "unit", "time", "site", "index", "comparator", "absent", "code", "group", "context", "flags",
     "corrects"}
)  # fmt: skip
COMPARATORS: Final = frozenset({"<", "<=", ">=", ">"})
#: FHIR data-absent-reason codes.
ABSENT: Final = frozenset(
    {"unknown", "asked-unknown", "temp-unknown", "not-asked", "asked-declined", "masked", "not-applicable",
     "unsupported", "as-text", "error", "not-a-number", "negative-infinity", "positive-infinity", "not-performed",
     "not-permitted"}
)  # fmt: skip
MAX_INDEX: Final = 1_000_000
MAX_FLAGS: Final = 16
_FLAG: Final = re.compile(r"^[a-z0-9][a-z0-9_-]{0,39}$", re.ASCII)
_TWICE: Final = re.compile(r"^x[_-]")


def unknown_key(found: Iterable[object], known: Iterable[str], what: str) -> Refused | None:
    """The refusal for a key that is neither known nor the device's own (`x_…`), or None."""
    names = sorted(known)
    for key in found:
        if key not in names and not (isinstance(key, str) and _TWICE.match(key)):
            close = difflib.get_close_matches(str(key)[:40], names, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
            return Refused(Reason.SCHEMA, f"{what} has an unknown key {show(key)}; {hint} (keys of your own: x_…)")
    return None


def read(item: int, document: Any, kind: Kind, context: Context) -> Reading:
    """The reading that a document of the `readings` list says.

    Raises
    ------
    Refused
        With the reason; the text has the value, the limit and the remedy.
    """
    if type(document) is not dict:
        raise Refused(Reason.SCHEMA, f"a reading is an object, not {show(document)}")
    if not document.keys() <= KEYS and (refused := unknown_key(document, KEYS, "the reading")):
        raise refused
    get = document.get
    name = get("metric")
    metric = kind.metrics.get(name) if type(name) is str else None
    if metric is None:
        raise _unknown_metric(name, kind)
    corrects = get("corrects")
    if corrects is not None:
        corrects = _corrects(corrects, context)
        if corrects.retract:
            return _retraction(item, document, metric, corrects, context)
    time_us, sent_us, offset_min = context.event(get("time"))
    value: Any = get("value")
    unit: Any = get("unit")
    comparator = ""
    kind_of = type(value)
    if (kind_of is float or kind_of is int) and not metric.codes:
        number = float(value)
        known = metric.units.get(unit) if type(unit) is str else None
        if known is None:
            raise unknown_unit(unit, metric.units, metric.name)
        canonical = number if known.is_canonical else _converted(number, known, metric)
        if not metric.low <= canonical <= metric.high:
            raise _out_of_range(number, unit, canonical, metric)
        unusual = not metric.unusual_low < canonical < metric.unusual_high
        code, absent = None, ""
        if len(document) > 4:  # metric, value, unit, time
            if "code" in document or "absent" in document:
                raise Refused(Reason.SCHEMA, f"{metric.name} has more than one of value, code and absent; send one")
            comparator = _comparator(get("comparator"))
        reading = Reading(
            item, metric.name, "", time_us, 0, canonical, code, comparator, absent, metric.unit, number, unit, sent_us,
            offset_min, "", None, None, unusual, corrects,
        )  # fmt: skip
    else:
        reading = _without_number(item, document, metric, (time_us, sent_us, offset_min), corrects)
    if len(document) > 4 or "value" not in document:
        _extras(reading, document, metric)
    return reading


def _unknown_metric(name: Any, kind: Kind) -> Refused:
    if name is None:
        return Refused(Reason.SCHEMA, "metric is missing; say what was measured")
    if type(name) is not str:
        return Refused(Reason.SCHEMA, f"metric is {show(name)}; send its name as a text")
    close = difflib.get_close_matches(name[:60], kind.metrics, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(kind.metrics)}"
    return Refused(Reason.UNKNOWN_METRIC, f"{kind.name} has no metric {show(name)}; {hint}")


def _converted(number: float, unit: Unit, metric: Metric) -> float:
    if not math.isfinite(number):
        raise _not_finite(number, metric)
    try:
        return to_canonical(number, unit)
    except OverflowError:
        raise _out_of_range(number, unit.code, math.inf, metric) from None


def unknown_unit(unit: Any, units: Iterable[str], name: str) -> Refused:
    """The refusal for a unit that is missing or not accepted."""
    accepted = ", ".join(repr(code) for code in units)
    if unit is None:
        return Refused(Reason.UNKNOWN_UNIT, f"{name} came without a unit; send one of {accepted}")
    instead = NOT_UCUM.get(unit) if type(unit) is str else None
    hint = f"in UCUM that is {instead!r}; " if instead else ""
    return Refused(Reason.UNKNOWN_UNIT, f"unit {show(unit)} is not accepted for {name}; {hint}send one of {accepted}")


def _not_finite(number: float, metric: Metric) -> Refused:
    return Refused(
        Reason.NOT_A_NUMBER,
        f"{metric.name} is {show(number)}; send a finite number, or leave value out and send absent: 'not-a-number'",
    )


def _out_of_range(number: float, unit: Any, canonical: float, metric: Metric) -> Refused:
    if not math.isfinite(number):
        return _not_finite(number, metric)
    as_canonical = "" if unit == metric.unit else f" ({canonical:g} {metric.unit})"
    return Refused(
        Reason.OUT_OF_RANGE,
        f"{metric.name} {show(number)} {unit}{as_canonical} is outside {metric.low:g} to {metric.high:g} "
        f"{metric.unit}; check the unit and the sensor",
    )


def _comparator(comparator: Any) -> str:
    if comparator is None:
        return ""
    if type(comparator) is not str or comparator not in COMPARATORS:
        raise Refused(Reason.SCHEMA, f"comparator is {show(comparator)}; send one of <, <=, >=, >")
    return comparator


def _without_number(
    item: int, document: dict[str, Any], metric: Metric, when: tuple[int, int, int], corrects: Corrects | None
) -> Reading:
    time_us, sent_us, offset_min = when
    absent, code, value = document.get("absent"), document.get("code"), document.get("value")
    if document.get("comparator") is not None:
        raise Refused(Reason.SCHEMA, f"comparator goes with a number; {metric.name} came without one")
    if metric.codes and code is None and type(value) is str:
        code, value = value, None
    if sum(part is not None for part in (absent, code, value)) != 1:
        if absent is None and code is None and "value" in document:
            raise Refused(Reason.NOT_A_NUMBER, f"{metric.name} is null; leave value out and say why in absent")
        raise Refused(Reason.SCHEMA, f"{metric.name} needs exactly one of value, code and absent")
    if value is not None:
        if metric.codes:
            raise Refused(Reason.UNKNOWN_CODE, f"{metric.name} is {show(value)}; send code, one of {_listed(metric)}")
        raise Refused(
            Reason.NOT_A_NUMBER, f"{metric.name} is {show(value)}; send a number without quotes, such as 36.8"
        )
    unusual, unit_sent = False, document.get("unit")
    if code is not None:
        found = metric.codes.get(code) if type(code) is str else None
        if found is None:
            raise Refused(
                Reason.UNKNOWN_CODE,
                f"{metric.name} has no code {show(code)}; send one of {_listed(metric)}"
                if metric.codes
                else f"{metric.name} is a number, not a code; send value",
            )
        code, unusual = found.code, found.unusual
    elif type(absent) is not str or absent not in ABSENT:
        raise Refused(Reason.SCHEMA, f"absent is {show(absent)}; send one of {', '.join(sorted(ABSENT))}")
    if unit_sent is not None and unit_sent not in metric.units:
        raise unknown_unit(unit_sent, metric.units, metric.name)
    return Reading(
        item, metric.name, "", time_us, 0, None, code, "", absent or "", metric.unit, None, unit_sent or "", sent_us,
        offset_min, "", None, None, unusual, corrects,
    )  # fmt: skip


def _listed(metric: Metric) -> str:
    return ", ".join(dict.fromkeys(code.code for code in metric.codes.values()))


def _extras(reading: Reading, document: dict[str, Any], metric: Metric) -> None:
    get = document.get
    if (site := get("site")) is not None:
        if type(site) is not str or site not in metric.sites:
            known = ", ".join(sorted(metric.sites)) or "none"
            raise Refused(Reason.UNKNOWN_CODE, f"site {show(site)} is not one of {metric.name}'s: {known}")
        reading.site = site
    if (index := get("index")) is not None:
        if type(index) is not int or not 0 <= index <= MAX_INDEX:
            raise Refused(Reason.SCHEMA, f"index is {show(index)}; send a whole number from 0 to {MAX_INDEX}")
        reading.index = index
    if (group := get("group")) is not None:
        reading.group = printable(group, "group", 64)
    if (words := get("context")) is not None:
        reading.context = _context(words, metric)
    if (marks := get("flags")) is not None:
        reading.flags = flags(marks)


def printable(value: Any, name: str, longest: int) -> str:
    """A short text without control characters, else SCHEMA."""
    if type(value) is not str or not 1 <= len(value) <= longest or not value.isprintable():
        raise Refused(Reason.SCHEMA, f"{name} is {show(value)}; send 1 to {longest} printable characters")
    return value


def flags(marks: Any) -> list[str]:
    """A list of device flags such as low_battery, without repeats, else SCHEMA."""
    if type(marks) is not list or len(marks) > MAX_FLAGS:
        raise Refused(Reason.SCHEMA, f"flags is {show(marks)}; send a list of at most {MAX_FLAGS} words")
    for mark in marks:
        if type(mark) is not str or not _FLAG.match(mark):
            raise Refused(Reason.SCHEMA, f"flag {show(mark)} is not a word such as sensor_off, low_battery or motion")
    return list(dict.fromkeys(marks))


def _context(words: Any, metric: Metric) -> dict[str, str]:
    if type(words) is not dict:
        raise Refused(Reason.SCHEMA, f"context is {show(words)}; send an object such as {{'position': 'sitting'}}")
    for key, value in words.items():
        known = metric.contexts.get(key)
        if known is None:
            names = ", ".join(metric.contexts) or "none"
            raise Refused(Reason.UNKNOWN_CODE, f"{metric.name} has no context {show(key)}; known are {names}")
        if type(value) is not str or value not in known:
            raise Refused(
                Reason.UNKNOWN_CODE, f"context {key} is {show(value)}; send one of {', '.join(sorted(known))}"
            )
    return dict(words)


# --- corrections ----------------------------------------------------------------------------------------------------


def _bad(detail: str) -> Refused:
    return Refused(Reason.BAD_CORRECTION, f"corrects {detail}; " + Reason.BAD_CORRECTION.remedy)


def _corrects(document: Any, context: Context) -> Corrects:
    if type(document) is not dict:
        raise _bad(f"is {show(document)}")
    for key in document:
        if key not in ("epoch", "seq", "index", "time", "retract"):
            raise _bad(f"has an unknown key {show(key)}")
    retract = document.get("retract", False)
    if type(retract) is not bool:
        raise _bad(f"has retract {show(retract)}, which is neither true nor false")
    seq, time = document.get("seq"), document.get("time")
    if (seq is None) == (time is None):
        raise _bad("needs either seq or time")
    if time is not None:
        if type(time) is not str:
            raise _bad(f"has time {show(time)}")
        event_us, sent_us, _ = context.event(time, "corrects.time")
        return Corrects("", NO_SEQ, 0, event_us, retract, sent_us)
    epoch, index = document.get("epoch", context.epoch), document.get("index", 0)
    if type(epoch) is not str or not 1 <= len(epoch) <= 64 or not epoch.isprintable():
        raise _bad(f"has epoch {show(epoch)}")
    if type(seq) is not int or not 0 <= seq <= MAX_NUMBER:
        raise _bad(f"has seq {show(seq)}")
    if type(index) is not int or not 0 <= index <= MAX_INDEX:
        raise _bad(f"has index {show(index)}")
    if epoch == context.epoch and context.seq != NO_SEQ and seq >= context.seq:
        raise _bad(f"names number {seq}, which is not earlier than this message's own, {context.seq}")
    return Corrects(epoch, seq, index, None, retract)


def _retraction(item: int, document: dict[str, Any], metric: Metric, corrects: Corrects, context: Context) -> Reading:
    for key in ("value", "code", "absent", "comparator"):
        if document.get(key) is not None:
            raise _bad(f"retracts, but the reading has a {key}")
    time = document.get("time")
    if time is not None:
        when = context.event(time)
    elif corrects.time_us is not None and corrects.time_sent_us is not None:
        when = (corrects.time_us, corrects.time_sent_us, 0)
    else:
        when = (context.received_us, context.received_us, 0)
    unit = document.get("unit")
    if unit is not None and (type(unit) is not str or unit not in metric.units):
        raise unknown_unit(unit, metric.units, metric.name)
    reading = Reading(
        item, metric.name, "", when[0], 0, None, None, "", "", metric.unit, None, unit or "", when[1], when[2], "",
        None, None, False, corrects,
    )  # fmt: skip
    _extras(reading, document, metric)
    return reading


# --- values that belong together ------------------------------------------------------------------------------------


def inconsistent(readings: list[Reading], kind: Kind) -> list[Dead]:
    """Refusals for readings of one group and time whose values do not rise in the order that the kind demands."""
    dead: dict[int, Dead] = {}
    for order in kind.ordered:
        together: dict[tuple[str, int, int], dict[str, Reading]] = {}
        for reading in readings:
            if reading.metric in order.metrics and reading.value_num is not None and not reading.comparator:
                key = (reading.group, reading.time_us, reading.index)
                together.setdefault(key, {})[reading.metric] = reading
        for members in together.values():
            present = [members[name] for name in order.metrics if name in members]
            for lower, upper in pairwise(present):
                low, high = lower.value_num or 0.0, upper.value_num or 0.0
                if low < high or (low == high and not order.strict):
                    continue
                detail = (
                    f"{lower.metric} {low:g} is not below {upper.metric} {high:g} of the same measurement; "
                    "check that they are not exchanged"
                )
                for reading in present:
                    dead.setdefault(reading.item, Dead(reading.item, Reason.INCONSISTENT, detail))
    return list(dead.values())
