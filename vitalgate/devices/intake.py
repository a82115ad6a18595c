"""One raw record to one validated message: decode, authorise, place in the device's order, correct times, validate.

Pure: the same record, device and state always give the same message and state. `take` never raises for any bytes.

Re-processing. After a crash the same raw offsets come again, with the state as it was written last. Offsets at or
below `state.offset` went in before: they change nothing, and they give the message they gave then, because the state
remembers which offsets were repeats, from which message on which skew held, and where the latest blocks without
sample numbers lie. (What is older than that memory may differ in `repeat` or `first_sample`; the recorder skips
offsets it has, and analysis and alerting are idempotent, so it does not matter.)
"""

from __future__ import annotations

from typing import Any, Final

from vitalgate.config import topics
from vitalgate.config.settings import IntakeSettings
from vitalgate.devices import clock as clocks
from vitalgate.devices import envelope as envelopes
from vitalgate.devices import sequences
from vitalgate.devices.catalogue import Catalogue
from vitalgate.devices.context import Context
from vitalgate.devices.decode import decode
from vitalgate.devices.identity import content_hash, payload_hash
from vitalgate.devices.raw import WHOLE, RawRecord, RegisteredDevice
from vitalgate.devices.reasons import Reason, Refused, show
from vitalgate.devices.recordings import Placer
from vitalgate.devices.records import NO_SEQ, Dead, DeviceSequences, Kept, Message
from vitalgate.devices.validate import Validated, validate, whole

__all__ = ["WHOLE", "RawRecord", "RegisteredDevice", "take"]

MAX_REPEATS: Final = 64
MAX_SKEW_S: Final = 2**31 - 1
"""Clock skew beyond which `sent_at` is refused: 68 years; also what the database's columns hold."""
MAX_DETAIL: Final = 300
"""Characters of a refusal's detail that are kept in a device's state for its receipts."""


def take(
    raw: RawRecord,
    device: RegisteredDevice | None,
    state: DeviceSequences | None,
    catalogue: Catalogue,
    settings: IntakeSettings,
    *,
    max_payload_bytes: int = 1_048_576,
) -> tuple[Message, DeviceSequences]:
    """The message in a raw record, and the device's state after it.

    Parameters
    ----------
    raw
        The record.
    device
        The registry's entry of the device that the record's MQTT topic names; None when there is none.
    state
        The device's state so far, None for a new one. It is not changed. Clear what it touches once a batch with
        `sequences.begin`.
    catalogue, settings, max_payload_bytes
        The kinds, and the limits (settings.intake, settings.mqtt.max_payload_bytes).

    Returns
    -------
    (Message, DeviceSequences)
        The message has at least one item. The state is the given one itself when nothing is to be written: for a
        record taken before, and for one of an unknown device, which is promised nothing.
    """
    parsed = topics.parse_device_topic(raw.topic)
    name = parsed[0] if parsed else _third(raw.topic)
    leaf = parsed[1] if parsed else ""
    before = state or DeviceSequences(name, -1)
    if parsed is None:
        refusal = (Reason.WRONG_TOPIC, f"topic {show(raw.topic)} is not v1/devices/…/readings, waveforms or status")
        return _refused(raw, name, leaf, "", refusal), before
    if device is None:
        refusal = (Reason.UNKNOWN_DEVICE, f"no device {show(name)} is registered; add it with `vitalgate device add`")
        return _refused(raw, name, leaf, "", refusal), before
    kind = catalogue.kinds.get(device.kind)
    if kind is None:
        refusal = (Reason.UNKNOWN_DEVICE, f"device {show(name)} is registered as {show(device.kind)}, no known kind")
        return _refused(raw, name, leaf, device.kind, refusal), before
    payload = raw.value
    document: dict[str, Any] | None = None
    size = max(raw.oversize, len(payload))
    try:
        if raw.oversize or size > max_payload_bytes:
            raise Refused(
                Reason.OVERSIZE, f"{size} bytes, the limit is {max_payload_bytes}; split it into several messages"
            )
        document = decode(payload)
        envelope = envelopes.read(document, name)
        _check_clock(envelope, raw)
    except Refused as refused:
        envelope = _numbered(document)
        outcome: Validated | None = whole(refused.reason, refused.detail)
    else:
        outcome = None
    if device.revoked and (device.revoked_at_us is None or raw.received_us >= device.revoked_at_us):
        outcome = whole(Reason.REVOKED, f"device {show(name)} was revoked; register it anew if it should send again")
    again = raw.offset <= before.offset
    step = _Step(raw, before, envelope, settings, again)
    placer = Placer(before.anchors, before.recent_blocks)
    if outcome is None and document is not None:
        context = Context.of(
            settings,
            raw.received_us,
            step.skew_s,
            placer=placer,
            epoch=envelope.epoch,
            seq=envelope.seq,
            sample_rate=device.sample_rate,
        )
        outcome = validate(document, leaf, kind, context)
    assert outcome is not None
    if raw.replay_of is not None and raw.replay_item != WHOLE:
        outcome = _only(outcome, raw.replay_item)
    blocks = {waveform.item: waveform.samples for waveform in outcome.waveforms} or None
    message = Message(
        device=name,
        leaf=leaf,
        offset=raw.offset,
        received_us=raw.received_us,
        trace=raw.trace,
        epoch=envelope.epoch,
        seq=envelope.seq,
        epoch_no=step.epoch_no,
        order=step.order,
        repeat=step.repeat,
        skew_s=step.skew_s,
        payload_hash=payload_hash(payload),
        content_hash=content_hash(document, blocks) if document is not None else b"",
        readings=outcome.readings,
        waveforms=outcome.waveforms,
        status=outcome.status,
        dead=outcome.dead,
        payload=payload if outcome.dead else b"",
        mqtt_topic=raw.topic if outcome.dead else "",
        sent_us=envelope.sent_us,
        replay_of=raw.replay_of,
        device_kind=device.kind,
        declared_lost=envelope.lost,
    )
    return message, before if again else step.after(outcome.dead, placer)


def _check_clock(envelope: envelopes.Envelope, raw: RawRecord) -> None:
    """Refuse a `sent_at` that no clock shows, before it is taken for the device's skew.

    A clock that starts at 1970 after an empty battery is some 56 years behind. One that is 68 years off is a fault of
    the firmware or of the bytes, and would make all that the device sends afterwards implausible.
    """
    if envelope.sent_us is not None and abs(envelope.sent_us - raw.received_us) > MAX_SKEW_S * 1_000_000:
        raise Refused(
            Reason.TIME_UNEXPLAINED,
            f"sent_at is {(envelope.sent_us - raw.received_us) // 1_000_000} s off its arrival, the limit "
            f"is {MAX_SKEW_S} s; set the device's clock",
        )


class _Step:
    """How one message moves its device's state: order, repeat and skew, told before the items are looked at."""

    def __init__(
        self,
        raw: RawRecord,
        before: DeviceSequences,
        envelope: envelopes.Envelope,
        settings: IntakeSettings,
        again: bool,
    ) -> None:
        self.raw, self.before, self.envelope = raw, before, envelope
        self.kept: Kept | None = None
        self.epoch_no, self.order, self.repeat = 0, raw.offset, False
        newest = True
        if envelope.epoch:
            last = before.epochs[-1] if before.epochs else None
            kept = last if last is not None and last.epoch == envelope.epoch else sequences.find(before, envelope.epoch)
            known = kept is not None
            self.kept = kept = kept or Kept(envelope.epoch, (last.epoch_no if last else 0) + 1, sequences.NOTHING)
            if envelope.seq != NO_SEQ:
                self.epoch_no, self.order = kept.epoch_no, envelope.seq
                newest = not known or (kept is last and envelope.seq > sequences.highest(kept))
                self.repeat = raw.offset in before.repeats if again else sequences.contains(kept, envelope.seq)
        clock = clocks.Clock(before.skew_s, tuple(before.skew_floor_us), tuple(before.skew_steps))
        if envelope.sent_us is not None and not (again or raw.retain or raw.replay_of is not None):
            clock = clocks.observe(
                clock,
                received_us=raw.received_us,
                sent_us=envelope.sent_us,
                offset=raw.offset,
                epoch_no=self.epoch_no,
                order=self.order,
                newest=newest,
                tolerance_s=settings.skew_tolerance_s,
                max_backfill_days=settings.max_backfill_days,
            )
        self.clock = clock
        if newest and not again and raw.replay_of is None:
            self.skew_s = clock.skew_s
        else:
            self.skew_s = clocks.in_force(clock, raw.offset, self.epoch_no, self.order)

    def after(self, dead: list[Dead], placer: Placer) -> DeviceSequences:
        """The state once the message is kept."""
        before, envelope, now = self.before, self.envelope, self.raw.received_us
        epochs, touched = before.epochs, before.touched
        rejected, rejected_us = before.rejected, before.rejected_us
        if self.kept is not None:
            kept = self.kept
            if envelope.seq != NO_SEQ:
                kept = sequences.add(kept, envelope.seq, now)
            if envelope.lost:
                kept = sequences.declare_lost(kept, envelope.lost, now)
            epochs = sequences.with_epoch(epochs, kept)
            touched = touched if kept.epoch in touched else [*touched, kept.epoch]
            if envelope.seq != NO_SEQ and (dead or self.repeat):
                rejected, rejected_us = _rejections(before, envelope, dead, now)
        repeats = before.repeats
        if self.repeat:
            repeats = [*repeats[-(MAX_REPEATS - 1) :], self.raw.offset]
        clock = self.clock
        return DeviceSequences(
            before.device,
            self.raw.offset,
            epochs,
            max(now, before.updated_us),
            clock.skew_s,
            list(clock.memory),
            touched,
            rejected,
            placer.anchors,
            list(clock.steps),
            rejected_us,
            repeats,
            placer.recent,
        )


def _rejections(
    before: DeviceSequences, envelope: envelopes.Envelope, dead: list[Dead], now_us: int
) -> tuple[list[tuple[str, int, str, str]], list[int]]:
    """The remembered refusals, those of this message last and only once."""
    times = before.rejected_us or [before.updated_us] * len(before.rejected)
    kept = [
        (entry, at)
        for entry, at in zip(before.rejected, times, strict=False)
        if (entry[0], entry[1]) != (envelope.epoch, envelope.seq)
    ]
    for one in dead:
        where = "" if one.item == WHOLE else f"item {one.item}: "
        kept.append(((envelope.epoch, envelope.seq, one.reason, (where + one.detail)[:MAX_DETAIL]), now_us))
    kept = kept[-sequences.MAX_REJECTED :]
    return [entry for entry, _ in kept], [at for _, at in kept]


def _numbered(document: dict[str, Any] | None) -> envelopes.Envelope:
    """The number of a message that is refused as a whole, if it can be told, so that the refusal is told too."""
    if document is not None:
        try:
            epoch, seq = envelopes.number(document)
        except Refused:
            pass
        else:
            return envelopes.Envelope(epoch, seq, None, [])
    return envelopes.Envelope("", NO_SEQ, None, [])


def _only(outcome: Validated, item: int) -> Validated:
    """Only one item of a message: the others were kept when it first came."""
    if any(dead.item == WHOLE for dead in outcome.dead):
        return outcome
    only = Validated(
        [reading for reading in outcome.readings if reading.item == item],
        [waveform for waveform in outcome.waveforms if waveform.item == item],
        outcome.status if outcome.status is not None and outcome.status.item == item else None,
        [dead for dead in outcome.dead if dead.item == item],
    )
    if any(only):
        return only
    return whole(Reason.SCHEMA, f"the message has no item {item} to send through again")


def _third(topic: str) -> str:
    parts = topic.split("/")
    return parts[2] if len(parts) > 2 and parts[2] else "unknown"


def _refused(raw: RawRecord, name: str, leaf: str, kind: str, refusal: tuple[Reason, str]) -> Message:
    """A message that is refused before its content matters; its number is told when it can be."""
    try:
        document: dict[str, Any] | None = decode(raw.value)
    except Refused:
        document = None
    envelope = _numbered(document)
    return Message(
        device=name,
        leaf=leaf,
        offset=raw.offset,
        received_us=raw.received_us,
        trace=raw.trace,
        epoch=envelope.epoch,
        seq=envelope.seq,
        epoch_no=0,
        order=raw.offset,
        repeat=False,
        skew_s=0,
        payload_hash=payload_hash(raw.value),
        content_hash=content_hash(document) if document is not None else b"",
        dead=[Dead(WHOLE, *refusal)],
        payload=raw.value,
        mqtt_topic=raw.topic,
        replay_of=raw.replay_of,
        device_kind=kind,
    )
