"""What every message may carry around its items: number, time of sending, numbers declared lost."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from vitalgate.devices import times
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.records import NO_SEQ

MAX_NUMBER: Final = 2**53 - 1
"""Largest sequence or sample number: the largest that every JSON reader holds exactly."""
MAX_LOST: Final = 1000
_EPOCH: Final = re.compile(r"^[A-Za-z0-9._:-]{1,64}$", re.ASCII)
KEYS: Final = frozenset({"epoch", "seq", "sent_at", "lost", "device_id"})


class Envelope(NamedTuple):
    """The checked envelope of a message."""

    epoch: str
    seq: int
    sent_us: int | None
    lost: list[int]


def number(document: dict[str, Any]) -> tuple[str, int]:
    """(epoch, seq) of a message, ('', NO_SEQ) when it bears none.

    Raises
    ------
    Refused
        SCHEMA when they have the wrong form, or one is there without the other.
    """
    epoch, seq = document.get("epoch"), document.get("seq")
    if epoch is None and seq is None:
        return "", NO_SEQ
    if type(epoch) is not str or not _EPOCH.match(epoch):
        raise Refused(
            Reason.SCHEMA, f"epoch is {show(epoch)}; send 1 to 64 letters, digits or ._:- beside every seq or lost"
        )
    if seq is None and document.get("lost") is not None:
        return epoch, NO_SEQ
    if type(seq) is not int or not 0 <= seq <= MAX_NUMBER:
        raise Refused(Reason.SCHEMA, f"seq is {show(seq)}; send a whole number from 1 to {MAX_NUMBER} beside epoch")
    return epoch, seq


def read(document: dict[str, Any], device: str) -> Envelope:
    """The envelope of a message that came from `device`.

    Raises
    ------
    Refused
        SCHEMA for a value of the wrong form, TOO_MANY for too long a `lost`, WRONG_TOPIC when the message names
        another device than its topic does.
    """
    epoch, seq = number(document)
    named = document.get("device_id")
    if named is not None and named != device:
        raise Refused(
            Reason.WRONG_TOPIC, f"device_id is {show(named)} but the topic is that of {show(device)}; leave it out"
        )
    sent = document.get("sent_at")
    sent_us = None
    if sent is not None:
        if type(sent) is not str:
            raise Refused(Reason.SCHEMA, f"sent_at is {show(sent)}; send an RFC 3339 text")
        sent_us = times.parse(sent).us
    lost = document.get("lost")
    if lost is not None and not epoch:
        raise Refused(Reason.SCHEMA, "lost without epoch; say whose numbers they are")
    return Envelope(epoch, seq, sent_us, [] if lost is None else _lost(lost, seq))


def _lost(lost: Any, seq: int) -> list[int]:
    if type(lost) is not list:
        raise Refused(Reason.SCHEMA, f"lost is {show(lost)}; send a list of sequence numbers")
    if len(lost) > MAX_LOST:
        raise Refused(
            Reason.TOO_MANY, f"lost names {len(lost)} numbers, the limit is {MAX_LOST}; send several messages"
        )
    for one in lost:
        if type(one) is not int or not 0 <= one <= MAX_NUMBER:
            raise Refused(Reason.SCHEMA, f"lost holds {show(one)}; it is a list of sequence numbers")
        if one == seq:
            raise Refused(Reason.SCHEMA, f"lost holds {one}, the number of this very message")
    return lost
