"""All items of one decoded message: what is good is kept, what is not is refused with its reason, each for itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from vitalgate.devices import blocks, readings, statuses
from vitalgate.devices.catalogue import Kind
from vitalgate.devices.context import Context
from vitalgate.devices.envelope import KEYS as ENVELOPE_KEYS
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.records import Dead, Reading, Status, Waveform

LOST = "lost"
"""State of the status item that a message is which only declares numbers lost."""
_LISTS = ("readings", "waveforms")


class Validated(NamedTuple):
    """The items of a message; together at least one."""

    readings: list[Reading]
    waveforms: list[Waveform]
    status: Status | None
    dead: list[Dead]


def whole(reason: Reason, detail: str) -> Validated:
    """The outcome of a message that is refused as one."""
    return Validated([], [], None, [Dead(-1, reason, detail)])


def validate(document: dict[str, Any], leaf: str, kind: Kind, context: Context) -> Validated:
    """The items of a message that was published to `leaf` (readings, waveforms or status). Never raises Refused."""
    try:
        if leaf == "status":
            return _status(document, context)
        return _items(document, leaf, kind, context)
    except Refused as refused:
        return whole(refused.reason, refused.detail)


def _status(document: dict[str, Any], context: Context) -> Validated:
    for name in _LISTS:
        if name in document:
            raise Refused(Reason.WRONG_TOPIC, f"{name} came on the status topic; publish them to …/{name}")
    if "state" not in document and _only_lost(document):
        return _lost(document, context)
    return Validated([], [], statuses.read(document, context), [])


def _only_lost(document: dict[str, Any]) -> bool:
    return bool(document.get("lost")) and document.keys() <= ENVELOPE_KEYS


def _lost(document: dict[str, Any], context: Context) -> Validated:
    detail = {"numbers": str(len(document["lost"]))}
    return Validated([], [], Status(0, LOST, context.received_us, detail=detail), [])


def _items(document: dict[str, Any], leaf: str, kind: Kind, context: Context) -> Validated:
    other = _LISTS[leaf == "readings"]
    if other in document:
        raise Refused(Reason.WRONG_TOPIC, f"{other} came on the {leaf} topic; publish them to …/{other}")
    if leaf in document:
        items = document[leaf]
        if type(items) is not list:
            raise Refused(Reason.SCHEMA, f"{leaf} is {show(items)}; send a list of objects")
        first_key = "metric" if leaf == "readings" else "channel"
        if first_key in document:
            raise Refused(Reason.SCHEMA, f"{leaf} and {first_key} side by side; send a list or a single item, not both")
    elif _only_lost(document):
        return _lost(document, context)
    elif "metric" in document or "channel" in document:
        items = [{key: value for key, value in document.items() if key not in ENVELOPE_KEYS}]
    elif "state" in document:
        raise Refused(Reason.WRONG_TOPIC, f"a status came on the {leaf} topic; publish it to …/status")
    else:
        raise Refused(Reason.SCHEMA, f"there is no {leaf} in the message; send {{'{leaf}': [ … ]}}")
    if not items:
        if document.get("lost"):
            return _lost(document, context)
        raise Refused(Reason.SCHEMA, f"{leaf} is an empty list; send at least one item")
    if len(items) > context.max_readings:
        raise Refused(
            Reason.TOO_MANY,
            f"{len(items)} items in one message, the limit is {context.max_readings}; send several messages",
        )
    return _readings(items, kind, context) if leaf == "readings" else _waveforms(items, kind, context)


def _readings(items: list[Any], kind: Kind, context: Context) -> Validated:
    good: list[Reading] = []
    dead: list[Dead] = []
    for item, document in enumerate(items):
        try:
            good.append(readings.read(item, document, kind, context))
        except Refused as refused:
            dead.append(Dead(item, refused.reason, refused.detail))
    if kind.ordered and len(good) > 1 and (more := readings.inconsistent(good, kind)):
        refused_items = {entry.item for entry in more}
        good = [reading for reading in good if reading.item not in refused_items]
        dead = sorted([*dead, *more], key=lambda entry: entry.item)
    return Validated(good, [], None, dead)


def _waveforms(items: list[Any], kind: Kind, context: Context) -> Validated:
    good: list[Waveform] = []
    dead: list[Dead] = []
    left = context.max_samples
    for item, document in enumerate(items):
        try:
            block = blocks.read(item, document, kind, context, left)
            good.append(block)
            left -= block.count
        except Refused as refused:
            dead.append(Dead(item, refused.reason, refused.detail))
    return Validated([], good, None, dead)
