"""Public documents of stored rows: one `device.readings` record a message, one `device.waveforms` record a block."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import orjson

from vitalgate.devices.identity import dead_letter_id, message_id
from vitalgate.devices.records import NO_SEQ, Dead, Message, Reading, Waveform
from vitalgate.storage import packing
from vitalgate.storage.applied import Public
from vitalgate.storage.rows import retracts
from vitalgate.storage.times import EPOCH, micros, moment

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY


__all__ = ["EPOCH", "dead_letter", "micros", "moment", "number", "reading", "readings", "waveform"]

_NO_CONTEXT: dict[str, str] = {}
_NO_FLAGS: list[str] = []


def number(message: Message) -> int | None:
    """The sequence number, None for a message without one."""
    return None if message.seq == NO_SEQ else message.seq


def reading(message: Message, r: Reading, version: int, current: bool) -> dict[str, Any]:
    """One entry of a `device.readings` record."""
    time = moment(r.time_us)
    return {
        "metric": r.metric,
        "site": r.site,
        "index": r.index,
        "time": time,
        "version": version,
        "current": current,
        "value": r.value_num,
        "code": r.value_code,
        "comparator": r.comparator,
        "absent": r.absent,
        "unit": r.unit,
        "value_sent": r.value_sent,
        "unit_sent": r.unit_sent,
        "time_sent": time if r.time_sent_us == r.time_us else moment(r.time_sent_us),
        "group": r.group,
        "context": r.context or _NO_CONTEXT,
        "flags": r.flags or _NO_FLAGS,
        "unusual": r.unusual,
        "retracted": retracts(r),
        "epoch": message.epoch,
        "seq": number(message),
        "item": r.item,
    }


def readings(device: str, message_id: str, trace: str, received: datetime, entries: list[dict[str, Any]]) -> Public:
    """A `device.readings` record."""
    document = {
        "device_id": device,
        "message_id": message_id,
        "trace": trace,
        "received_at": received,
        "readings": entries,
    }
    return Public(device, message_id, trace, orjson.dumps(document, option=_OPTIONS))


def waveform(message: Message, message_id: str, w: Waveform, version: int) -> Public:
    """A `device.waveforms` record of a block on its way in."""
    return _waveform(
        message.device, message_id, message.trace, moment(message.received_us), w.channel, w.recording, w.first_sample,
        w.count, version, moment(w.start_us), w.rate_num, w.rate_den, w.gain, w.offset, w.unit,
        packing.array(w.samples),
        w.missing or [], w.flags or [], message.epoch, number(message), w.item,
    )  # fmt: skip


def stored_waveform(
    device: str, message_id: str, trace: str, received: datetime, channel: str, recording: str, first_sample: int,
    count: int, version: int, start: datetime, rate_num: int, rate_den: int, gain: float, offset: float, unit: str,
    codec: int, packed: bytes, missing: list[int], flags: list[str], epoch: str, seq: int | None, item: int,
) -> Public:  # fmt: skip
    """The same record from a row."""
    return _waveform(
        device, message_id, trace, received, channel, recording, first_sample, count, version, start, rate_num,
        rate_den,
        gain, offset, unit, packing.unpack(codec, packed, count),
        [(missing[i], missing[i + 1]) for i in range(0, len(missing), 2)], flags, epoch, seq, item,
    )  # fmt: skip


def _waveform(
    device: str, message_id: str, trace: str, received: datetime, channel: str, recording: str, first_sample: int,
    count: int, version: int, start: datetime, rate_num: int, rate_den: int, gain: float, offset: float, unit: str,
    samples: packing.Samples, missing: list[tuple[int, int]], flags: list[str], epoch: str, seq: int | None, item: int,
) -> Public:  # fmt: skip
    document = {
        "device_id": device,
        "message_id": message_id,
        "trace": trace,
        "received_at": received,
        "channel": channel,
        "recording": recording,
        "first_sample": first_sample,
        "count": count,
        "version": version,
        "start": start,
        "rate": f"{rate_num}/{rate_den}",
        "gain": gain,
        "offset": offset,
        "unit": unit,
        "samples": samples,
        "missing": missing,
        "flags": flags,
        "epoch": epoch,
        "seq": seq,
        "item": item,
    }
    return Public(device, message_id, trace, orjson.dumps(document, option=_OPTIONS))


def dead_letter(message: Message, partition: int, message_id: str, dead: Dead) -> Public:
    """A `device.deadletter` record of an item that is refused."""
    return _dead_letter(
        dead_letter_id(partition, message.offset, dead.item), message.device, dead.reason, dead.detail, dead.item,
        message.mqtt_topic, moment(message.received_us), message.payload, message.payload_hash, message.epoch,
        number(message), partition, message.offset, message.trace, message_id,
    )  # fmt: skip


def stored_dead_letter(
    dead_id: str, device: str, reason: str, detail: str, item: int, mqtt_topic: str, received: datetime, payload: bytes,
    hash_: bytes, content: bytes, epoch: str, seq: int | None, partition: int, offset: int, trace: str,
) -> Public:  # fmt: skip
    """The same record from a row."""
    identity = message_id(device, epoch, NO_SEQ if seq is None else seq, content, hash_)
    return _dead_letter(
        dead_id, device, reason, detail, item, mqtt_topic, received, payload, hash_, epoch, seq, partition, offset,
        trace,
        identity,
    )  # fmt: skip


def _dead_letter(
    dead_id: str, device: str, reason: str, detail: str, item: int, mqtt_topic: str, received: datetime, payload: bytes,
    hash_: bytes, epoch: str, seq: int | None, partition: int, offset: int, trace: str, identity: str,
) -> Public:  # fmt: skip
    document = {
        "id": dead_id,
        "device_id": device,
        "reason": reason,
        "detail": detail,
        "item": item,
        "mqtt_topic": mqtt_topic,
        "received_at": received,
        "payload_base64": base64.b64encode(payload).decode(),
        "payload_hash": hash_.hex(),
        "epoch": epoch,
        "seq": seq,
        "raw": {"partition": partition, "offset": offset},
    }
    return Public(device, identity, trace, orjson.dumps(document, option=_OPTIONS))
