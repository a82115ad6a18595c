"""What is right and wrong with a payload, in words, for somebody who makes a device (`vitalgate device check`)."""

from __future__ import annotations

import struct
from array import array
from typing import Any, Literal, NamedTuple

from vitalgate.config.settings import IntakeSettings
from vitalgate.devices import blocks, catalogue, times
from vitalgate.devices import envelope as envelopes
from vitalgate.devices.catalogue import Catalogue, Kind
from vitalgate.devices.context import Context
from vitalgate.devices.decode import decode
from vitalgate.devices.reasons import Reason, Refused
from vitalgate.devices.records import NO_SEQ, Message, Reading, Waveform
from vitalgate.devices.validate import validate

Level = Literal["wrong", "advice", "fine"]


class Finding(NamedTuple):
    """One thing to say about a payload."""

    level: Level
    """wrong: it is refused. advice: it is taken, and could be better. fine: this is how it is understood."""
    item: int | None
    """Position in the message; None for the message as a whole."""
    text: str
    reason: str = ""
    """Reason code of what is wrong."""
    remedy: str = ""

    def __str__(self) -> str:
        where = "" if self.item is None else f"item {self.item}: "
        code = f" [{self.reason}]" if self.reason else ""
        remedy = f"\n         {self.remedy}" if self.remedy else ""
        return f"{self.level:6}{code} {where}{self.text}{remedy}"


def check(
    payload: bytes,
    leaf: str,
    kind: Kind | str,
    *,
    device: str = "",
    received_us: int | None = None,
    settings: IntakeSettings | None = None,
    max_payload_bytes: int = 1_048_576,
    kinds: Catalogue | None = None,
) -> list[Finding]:
    """All there is to say about one payload.

    Parameters
    ----------
    payload
        The bytes as they would be published.
    leaf
        readings, waveforms or status: the last part of the MQTT topic.
    kind
        The device's kind, or its name.
    device
        Its id, when the payload may name it.
    received_us
        When it is taken to arrive. None: when it says it was sent, else at its latest time, so that an old file is
        not refused for its age.
    settings, max_payload_bytes, kinds
        The deployment's limits and catalogue; their defaults otherwise.

    Returns
    -------
    list of Finding
        In the order of the message. It would be taken whole when none of them is `wrong`.

    Raises
    ------
    UnknownName
        When there is no kind of this name.
    """
    kind = (kinds or catalogue.load()).kind(kind) if isinstance(kind, str) else kind
    settings = settings or IntakeSettings()
    if leaf not in ("readings", "waveforms", "status"):
        return [
            _wrong(None, Reason.WRONG_TOPIC, f"there is no topic …/{leaf}; publish to readings, waveforms or status")
        ]
    if len(payload) > max_payload_bytes:
        return [_wrong(None, Reason.OVERSIZE, f"{len(payload)} bytes, the limit is {max_payload_bytes}")]
    try:
        document = decode(payload)
        envelope = envelopes.read(document, device or str(document.get("device_id", "")))
    except Refused as refused:
        return [_wrong(None, refused.reason, refused.detail)]
    form = "CBOR" if payload[:1] not in (b"{", b" ", b"\t", b"\r", b"\n", b"\xef") else "JSON"
    found = [Finding("fine", None, f"{form}, {len(payload)} bytes")]
    if received_us is None:
        received_us = _arrival(document, envelope)
    context = Context.of(settings, received_us, epoch=envelope.epoch, seq=envelope.seq)
    outcome = validate(document, leaf, kind, context)
    for reading in outcome.readings:
        found.append(Finding("fine", reading.item, _reading(reading)))
        if reading.unusual:
            found.append(Finding("advice", reading.item, f"{reading.metric} is unusual: it is kept, and flagged"))
    for waveform in outcome.waveforms:
        found.append(Finding("fine", waveform.item, _waveform(waveform)))
        found.extend(_about_block(waveform))
    if outcome.status is not None:
        found.append(Finding("fine", outcome.status.item, f"status {outcome.status.state!r}"))
    found.extend(
        _wrong(dead.item if dead.item >= 0 else None, Reason(dead.reason), dead.detail) for dead in outcome.dead
    )
    found.extend(_advice(document, envelope, leaf, outcome.readings))
    return sorted(found, key=lambda finding: -1 if finding.item is None else finding.item)


def refused(message: Message) -> list[Finding]:
    """What intake refused of a live message, in the same words."""
    return [_wrong(dead.item if dead.item >= 0 else None, Reason(dead.reason), dead.detail) for dead in message.dead]


def _wrong(item: int | None, reason: Reason, detail: str) -> Finding:
    return Finding("wrong", item, detail, reason.value)


def _arrival(document: dict[str, Any], envelope: envelopes.Envelope) -> int:
    """A time of arrival at which the message is not refused for its age alone."""
    if envelope.sent_us is not None:
        return envelope.sent_us
    latest = 0
    items: list[Any] = [document]
    for name in ("readings", "waveforms"):
        if isinstance(document.get(name), list):
            items += document[name]
    for item in items:
        corrects = item.get("corrects") if isinstance(item, dict) else None
        for holder, name in ((item, "time"), (item, "start"), (corrects, "time")):
            text = holder.get(name) if isinstance(holder, dict) else None
            if isinstance(text, str):
                try:
                    latest = max(latest, times.parse(text).us)
                except Refused:
                    continue
    return latest + 60_000_000


def _reading(reading: Reading) -> str:
    if reading.corrects is not None and reading.corrects.retract:
        return f"takes back a {reading.metric}"
    if reading.value_code is not None:
        value = reading.value_code
    elif reading.absent:
        value = f"no value ({reading.absent})"
    else:
        value = f"{reading.comparator}{reading.value_num:g} {reading.unit}"
        if reading.unit_sent != reading.unit:
            value += f" (sent as {reading.value_sent:g} {reading.unit_sent})"
    site = f" at the {reading.site}" if reading.site else ""
    correction = ", a correction" if reading.corrects is not None else ""
    return f"{reading.metric}{site} = {value} at {times.text(reading.time_us)}{correction}"


def _waveform(waveform: Waveform) -> str:
    raw = array("i", struct.unpack(f"<{waveform.count}i", waveform.samples))
    low = blocks.physical(waveform.gain, waveform.offset, min(raw))
    high = blocks.physical(waveform.gain, waveform.offset, max(raw))
    seconds = waveform.count * waveform.rate_den / waveform.rate_num
    return (
        f"{waveform.channel}: {waveform.count} samples, {seconds:g} s at {waveform.rate_num / waveform.rate_den:g} Hz, "
        f"{low:g} to {high:g} {waveform.unit}, recording {waveform.recording!r} from sample {waveform.first_sample}"
    )


def _about_block(waveform: Waveform) -> list[Finding]:
    found = []
    if waveform.recording.startswith("auto-"):
        found.append(
            Finding(
                "advice", waveform.item, "recording and first_sample are told from the start time",
                remedy="Number the samples, and jitter of the clock or a late packet cannot make blocks overlap.",
            )
        )  # fmt: skip
    if blocks.UNUSUAL in (waveform.flags or ()):
        found.append(Finding("advice", waveform.item, "the amplitude is unusual: it is kept, and flagged"))
    if len({waveform.samples[i : i + 4] for i in range(0, len(waveform.samples), 4)}) == 1 and waveform.count > 1:
        found.append(Finding("advice", waveform.item, "all samples are equal", remedy="Is the electrode on?"))
    return found


def _advice(
    document: dict[str, Any], envelope: envelopes.Envelope, leaf: str, readings: list[Reading]
) -> list[Finding]:
    found = []
    if envelope.seq == NO_SEQ and leaf != "status":
        found.append(
            Finding(
                "advice", None, "the message bears no number, so no receipt can name it",
                remedy="Send epoch and seq, keep the message until a receipt covers it, and nothing is lost.",
            )
        )  # fmt: skip
    if envelope.seq == 0:
        found.append(Finding("advice", None, "seq is 0", remedy="Count from 1, as receipts do."))
    if envelope.sent_us is None:
        found.append(
            Finding(
                "advice", None, "sent_at is missing, so a wrong clock cannot be corrected",
                remedy="Send the time of sending, anew at every attempt, by the same clock as the times measured.",
            )
        )  # fmt: skip
    seen: dict[tuple[str, str, int, int], int] = {}
    for reading in readings:
        measurement = (reading.metric, reading.site, reading.time_us, reading.index)
        if measurement in seen:
            found.append(
                Finding(
                    "advice", reading.item, f"is the same measurement as item {seen[measurement]}",
                    remedy="Another value for one metric, site, time and index is a correction; give each an index.",
                )
            )  # fmt: skip
        seen.setdefault(measurement, reading.item)
    known = envelopes.KEYS | {"readings", "waveforms"}
    if leaf != "status" and any(name in document for name in ("readings", "waveforms")):
        found.extend(
            Finding("advice", None, f"the key {name[:40]!r} around the items means nothing and is ignored")
            for name in document
            if name not in known and not name.startswith(("x_", "x-"))
        )
    return found
