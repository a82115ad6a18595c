"""The corpus of accepted bytes: one file a release, each line a message and what it was understood as.

Bytes once accepted decode for ever. Before a release, and never for an earlier one:
``python -m tests.devices.corpus 0.2.0`` adds its file.
"""

from __future__ import annotations

import json
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cbor2

from vitalgate.devices import catalogue
from vitalgate.devices.codec import encode_cbor, encode_json, pack_samples
from vitalgate.devices.records import Message

from .support import Feed, at, ecg, spo2

FOLDER = Path(__file__).with_name("accepted")


def understood(message: Message) -> list[Any]:
    """What a message was taken for, in a form that later releases can still be held to."""
    out: list[Any] = [message.epoch, message.seq]
    for r in message.readings:
        corrects = None
        if r.corrects is not None:
            c = r.corrects
            corrects = [c.epoch, c.seq, c.index, c.time_us, c.retract]
        out.append([
            "reading", r.item, r.metric, r.site, r.time_us, r.index, r.value_num, r.value_code, r.comparator, r.absent,
            r.unit, r.value_sent, r.unit_sent, r.time_sent_us, r.offset_min, r.group, r.context, r.flags, corrects,
        ])  # fmt: skip
    out.extend(
        [
            "waveform", w.item, w.channel, w.recording, w.first_sample, w.count, w.start_us, w.rate_num, w.rate_den,
            w.gain, w.offset, w.unit, blake2b(w.samples, digest_size=8).hexdigest(), w.missing,
        ]
        for w in message.waveforms
    )  # fmt: skip
    if message.status is not None:
        s = message.status
        out.append(["status", s.state, s.time_us, s.battery, s.firmware, s.serial, s.detail])
    out.extend(["dead", dead.item, dead.reason] for dead in message.dead)
    return list(json.loads(json.dumps(out)))


def examples() -> list[tuple[str, str, bytes]]:
    """(kind, leaf, bytes): every metric of every kind, every form of samples, and what goes around them."""
    out: list[tuple[str, str, bytes]] = []
    for kind in catalogue.load().kinds.values():
        for metric in kind.metrics.values():
            items: list[dict[str, Any]] = []
            for n, code in enumerate(dict.fromkeys(code.code for code in metric.codes.values())):
                items.append({"metric": metric.name, "code": code, "time": at(-n)})
            for n, unit in enumerate(metric.units.values()):
                middle = (metric.low + (metric.high - metric.low) / 3 - float(unit.offset)) / float(unit.factor)
                items.append({"metric": metric.name, "value": round(middle, 3), "unit": unit.code, "time": at(-n)})
            if metric.sites:
                items[0]["site"] = min(metric.sites)
            for name, words in metric.contexts.items():
                items[0].setdefault("context", {})[name] = min(words)
            out.append((kind.name, "readings", encode_json({"epoch": "c", "seq": 1, "readings": items})))
        for channel in kind.channels.values():
            block = {"channel": channel.name, "start": at(), "rate": str(channel.rate), "gain": 200,
                     "unit": channel.unit, "recording": "r1", "first_sample": 9, "samples": [0, -3, 70, 5]}  # fmt: skip
            out.append((kind.name, "waveforms", encode_cbor({"epoch": "c", "seq": 2, "waveforms": [block]})))
    around = {"epoch": "k3f9", "seq": 17, "sent_at": at(0.5), "lost": [3], "device_id": "d1"}
    forms: list[Any] = [
        [1, None, -2], pack_samples([1, 5, -2]), cbor2.CBORTag(64, b"\1\5"), cbor2.CBORTag(72, b"\1\xff"),
        cbor2.CBORTag(73, b"\0\1\xff\xff"), cbor2.CBORTag(77, b"\1\0\xff\xff"), cbor2.CBORTag(65, b"\0\1"),
        cbor2.CBORTag(69, b"\1\0"), cbor2.CBORTag(74, b"\0\0\0\1"), cbor2.CBORTag(78, b"\1\0\0\0"),
        cbor2.CBORTag(66, b"\0\0\0\1"), cbor2.CBORTag(70, b"\1\0\0\0"),
    ]  # fmt: skip
    blocks = [{**around, "waveforms": [ecg(form, missing=[[0, 1]])]} for form in forms]
    out += [("ecg-patch", "waveforms", cbor2.dumps(block)) for block in blocks]
    more: list[tuple[str, dict[str, Any]]] = [
        ("readings", {**around, "readings": [
            spo2(97, group="g", index=2, flags=["motion"], comparator="<"),
            {"metric": "spo2", "absent": "error", "time": at()},
            spo2(95, corrects={"epoch": "k3f9", "seq": 4, "index": 1}), spo2(95, corrects={"time": at(-5)}),
            {"metric": "spo2", "corrects": {"time": at(-5), "retract": True}},
            spo2(130), spo2(x_own=1),
        ]}),
        ("readings", {**spo2(), "time": "2026-11-21t11:00:00.123456+01:00"}),
        ("readings", {"epoch": "k3f9", "lost": [4, 5]}),
        ("status", {"state": "online", "battery": 80.5, "firmware": "1", "serial": "s", "rssi": -3, "time": at()}),
        ("status", {"state": "offline"}),
    ]  # fmt: skip
    for leaf, document in more:
        out += [("pulse-oximeter", leaf, encode_json(document)), ("pulse-oximeter", leaf, encode_cbor(document))]
    out.append(("pulse-oximeter", "readings", b"\xef\xbb\xbf\n" + encode_json(spo2())))
    out.append(("pulse-oximeter", "readings", b"\xd9\xd9\xf7" + encode_cbor(spo2())))
    tagged = {**spo2(), "time": cbor2.CBORTag(1, 1_795_255_200.25)}
    out.append(("pulse-oximeter", "readings", cbor2.dumps(tagged)))
    return out


def lines() -> list[str]:
    """The file of this release."""
    return [
        json.dumps([kind, leaf, payload.hex(), understood(Feed(kind).send(payload, leaf))])
        for kind, leaf, payload in examples()
    ]


if __name__ == "__main__":
    path = FOLDER / f"{sys.argv[1]}.jsonl"
    if path.exists():
        raise SystemExit(f"{path} is there: what a release accepted does not change")
    FOLDER.mkdir(exist_ok=True)
    path.write_text("\n".join(lines()) + "\n", encoding="utf-8")
