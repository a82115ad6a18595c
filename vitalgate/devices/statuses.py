"""A device's status message: birth, last will, or a report now and then."""

from __future__ import annotations

from typing import Any, Final

from vitalgate.devices.context import Context
from vitalgate.devices.envelope import KEYS as ENVELOPE_KEYS
from vitalgate.devices.readings import printable
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.records import Status

MAX_DETAILS: Final = 32
_OWN: Final = frozenset({"state", "time", "battery", "firmware", "serial", "detail"})


def read(document: dict[str, Any], context: Context) -> Status:
    """The status that a message of the status topic says; keys we do not know are kept in its `detail`.

    Raises
    ------
    Refused
        SCHEMA or OUT_OF_RANGE.
    """
    get = document.get
    state = printable(get("state"), "state", 40)
    time_us = context.event(get("time"))[0] if get("time") is not None else context.received_us
    battery = get("battery")
    if battery is not None:
        if type(battery) not in (int, float):
            raise Refused(Reason.NOT_A_NUMBER, f"battery is {show(battery)}; send a number, percent")
        if not 0 <= battery <= 100:
            raise Refused(Reason.OUT_OF_RANGE, f"battery {show(battery)} % is outside 0 to 100 %")
        battery = float(battery)
    details = get("detail")
    if details is not None and type(details) is not dict:
        raise Refused(Reason.SCHEMA, f"detail is {show(details)}; send an object of texts")
    more = {key: value for key, value in document.items() if key not in _OWN and key not in ENVELOPE_KEYS}
    more.update(details or {})
    if len(more) > MAX_DETAILS:
        raise Refused(Reason.TOO_MANY, f"the status has {len(more)} details, the limit is {MAX_DETAILS}")
    detail = {printable(key, "the name of a detail", 40): _text(key, value) for key, value in more.items()}
    return Status(
        0,
        state,
        time_us,
        battery,
        printable(get("firmware"), "firmware", 64) if get("firmware") is not None else "",
        printable(get("serial"), "serial", 64) if get("serial") is not None else "",
        detail or None,
    )


def _text(key: str, value: Any) -> str:
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (int, float):
        return repr(value)
    return printable(value, f"detail {show(key)}", 200)
