"""The whole pure step from a raw record to a message: any bytes, every reason, and the same again when re-processed."""

from __future__ import annotations

import random
from typing import Any

import cbor2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitalgate.devices import catalogue, sequences
from vitalgate.devices.catalogue import Kind
from vitalgate.devices.codec import encode_cbor, encode_json, pack_samples
from vitalgate.devices.identity import message_id
from vitalgate.devices.intake import RawRecord, RegisteredDevice, take
from vitalgate.devices.reasons import Reason
from vitalgate.devices.records import NO_SEQ, DeviceSequences, Message, ValidatedBatch, decode_batch, encode

from .messages import KINDS, good_message, payload
from .support import NOW, SECOND, SETTINGS, Feed, at, ecg, spo2


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, (list, tuple)):
        return [text for part in value for text in strings(part)]
    return []


def sound(message: Message) -> None:
    """What holds for every message, whatever it came from."""
    assert message.items() >= 1
    items: list[Any] = [*message.readings, *message.waveforms, *message.dead]
    places = [item.item for item in items]
    assert len(places) == len(set(places))
    assert all(Reason(dead.reason) and dead.detail for dead in message.dead)
    assert bool(message.payload) <= bool(message.dead)
    packed = encode(ValidatedBatch(0, message.offset, message.offset, [message]))
    (back,) = decode_batch(packed).messages
    assert encode(back) == encode(message)
    # PostgreSQL text has no NUL, and UTF-8 no surrogates.
    content = orjson.loads(orjson.dumps([
        [r.metric, r.site, r.group, r.unit_sent, r.value_code, r.flags, r.context, r.absent, r.comparator,
         r.corrects.epoch if r.corrects else ""] for r in message.readings
    ] + [[w.channel, w.recording, w.flags] for w in message.waveforms]
      + [[d.reason, d.detail] for d in message.dead]
      + [[message.epoch, message.device, message.leaf]]
      + ([[message.status.state, message.status.firmware, message.status.serial, message.status.detail]]
         if message.status else [])))  # fmt: skip
    assert not any("\0" in text for text in strings(content))
    for reading in message.readings:
        assert reading.value_num is None or reading.value_num == reading.value_num
        assert abs(reading.time_us) < 2**60
    for block in message.waveforms:
        assert len(block.samples) == 4 * block.count > 0
        assert 0 <= block.first_sample < 2**53


@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(payload())
def test_any_bytes_are_a_message_of_at_least_one_item(example: tuple[Kind, str, bytes]) -> None:
    kind, leaf, data = example
    feed = Feed(kind.name)
    sound(feed.send(data, leaf))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(KINDS.flatmap(lambda kind: st.tuples(st.just(kind), good_message(kind))), st.booleans())
def test_good_messages_are_good_in_both_forms(example: tuple[Kind, tuple[str, dict[str, Any]]], first: bool) -> None:
    kind, (leaf, document) = example
    made = [Feed(kind.name).send(form(document), leaf) for form in (encode_json, encode_cbor)]
    for message in made:
        sound(message)
        assert not message.dead, message.dead
    one, other = made
    assert one.content_hash == other.content_hash
    assert one.payload_hash != other.payload_hash
    assert one.readings == other.readings
    assert one.waveforms == other.waveforms


@settings(max_examples=100)
@given(st.lists(KINDS.flatmap(good_message), max_size=4), st.binary(max_size=60), st.binary(max_size=20))
def test_any_topic_and_headers(messages: list[Any], data: bytes, header: bytes) -> None:
    raw = RawRecord.of(
        0, 5, data, [("topic", header), ("received_at", header), ("replay_item", header), ("trace", None)], 1
    )
    message, state = take(raw, None, None, catalogue.load(), SETTINGS)
    sound(message)
    assert message.dead[0].reason in ("wrong_topic", "unknown_device")
    assert state.offset == -1


def test_headers_of_a_raw_record() -> None:
    headers = [
        ("topic", b"v1/devices/d1/readings"), ("received_at", b"1795255200000000"), ("trace", b"ab"), ("gateway", b"1"),
        ("retain", b"1"), ("replay_of", b"77"), ("replay_item", b"2"), ("oversize", b"2000000"),
    ]  # fmt: skip
    raw = RawRecord.of(3, 9, b"x", headers, 5)
    assert raw == RawRecord(3, 9, b"x", "v1/devices/d1/readings", NOW, "ab", "1", True, 77, 2, 2_000_000)
    assert RawRecord.of(3, 9, b"x", [], 5) == RawRecord(3, 9, b"x", "", 5000)


# --- every reason ---------------------------------------------------------------------------------------------------

REACHED: dict[Reason, tuple[str, str, bytes | dict[str, Any], dict[str, Any]]] = {
    Reason.UNDECODABLE: ("scale", "readings", b"hello", {}),
    Reason.OVERSIZE: ("scale", "readings", b'{"readings":[', {"oversize": 2_000_000}),
    Reason.WRONG_TOPIC: ("scale", "readings", {"device_id": "other", "readings": []}, {}),
    Reason.SCHEMA: ("scale", "readings", {"readings": [{"metric": "weight"}]}, {}),
    Reason.TOO_MANY: ("pulse-oximeter", "readings", {"readings": [spo2(index=n) for n in range(1001)]}, {}),
    Reason.UNKNOWN_METRIC: ("scale", "readings", spo2(), {}),
    Reason.UNKNOWN_CHANNEL: ("pulse-oximeter", "waveforms", ecg([1]), {}),
    Reason.UNKNOWN_UNIT: ("pulse-oximeter", "readings", spo2(unit="percent"), {}),
    Reason.UNKNOWN_CODE: ("manual", "readings", {"metric": "consciousness", "code": "Z", "time": at()}, {}),
    Reason.NOT_A_NUMBER: ("pulse-oximeter", "readings", b'{"metric":"spo2","value":NaN,"unit":"%","time":"%T"}', {}),
    Reason.OUT_OF_RANGE: ("pulse-oximeter", "readings", spo2(101), {}),
    Reason.INCONSISTENT: ("bp-cuff", "readings", {"readings": [
        {"metric": "bp_systolic", "value": 80, "unit": "mm[Hg]", "time": at()},
        {"metric": "bp_diastolic", "value": 120, "unit": "mm[Hg]", "time": at()}]}, {}),
    Reason.TIME_UNEXPLAINED: ("pulse-oximeter", "readings", spo2(97, -31 * 86400), {}),
    Reason.WAVEFORM_SHAPE: ("ecg-patch", "waveforms", ecg([1.5]), {}),
    Reason.BAD_CORRECTION: ("pulse-oximeter", "readings", spo2(corrects={}), {}),
}  # fmt: skip


@pytest.mark.parametrize("reason", list(REACHED))
def test_every_reason_that_intake_gives_is_reached(reason: Reason) -> None:
    kind, leaf, content, more = REACHED[reason]
    if isinstance(content, bytes):
        content = content.replace(b"%T", at().encode())
    message = Feed(kind).send(content, leaf, **more)
    sound(message)
    assert {dead.reason for dead in message.dead} == {reason}
    assert message.payload
    assert message.mqtt_topic


def test_the_only_other_reasons_need_the_registry_or_the_table() -> None:
    others = set(Reason) - set(REACHED)
    not_by_device = {reason for reason in Reason if not reason.by_device}
    assert not_by_device == {Reason.UNKNOWN_DEVICE, Reason.REVOKED, Reason.INTERNAL_ERROR, Reason.STORAGE_REFUSED}
    assert others == {*not_by_device, Reason.SEQUENCE_REUSED}


def test_an_unknown_device_is_promised_nothing() -> None:
    raw = Feed().raw({"epoch": "e", "seq": 4, "readings": [spo2()]})
    message, state = take(raw, None, None, catalogue.load(), SETTINGS)
    assert (message.dead[0].reason, message.epoch, message.seq) == ("unknown_device", "e", 4)
    assert state == DeviceSequences("d1", -1)
    toaster = RegisteredDevice("d1", "toaster")
    assert take(raw, toaster, None, catalogue.load(), SETTINGS)[0].dead[0].reason == "unknown_device"


def test_a_revoked_device_is_refused_from_that_moment() -> None:
    feed = Feed()
    feed.device = RegisteredDevice("d1", "pulse-oximeter", True, NOW + 10 * SECOND)
    assert not feed.send({"epoch": "e", "seq": 1, "readings": [spo2()]}, seconds=9).dead
    late = feed.send({"epoch": "e", "seq": 2, "readings": [spo2()]}, seconds=11)
    assert (late.dead[0].reason, late.dead[0].item) == ("revoked", -1)
    feed.device = RegisteredDevice("d1", "pulse-oximeter", True)
    assert feed.send({"readings": [spo2()]}).dead[0].reason == "revoked"
    assert feed.send(b"junk").dead[0].reason == "revoked"


def test_an_oversize_message_is_its_beginning() -> None:
    feed = Feed()
    message = feed.send(b'{"epoch":"e","seq":1,"readings":[', oversize=3_000_000)
    assert message.dead[0].detail.startswith("3000000 bytes, the limit is 1048576")
    whole, _ = take(
        feed.raw({"readings": [spo2()]}), feed.device, None, catalogue.load(), SETTINGS, max_payload_bytes=50
    )
    assert whole.dead[0].reason == "oversize"


def test_a_refused_message_still_counts_its_number() -> None:
    feed = Feed()
    feed.send({"epoch": "e", "seq": 1, "readings": "x"})
    feed.send({"epoch": "e", "seq": 2, "sent_at": "yesterday", "readings": [spo2()]})
    assert feed.state is not None
    kept = sequences.find(feed.state, "e")
    assert kept is not None
    assert kept.through == 2
    for wrong in ({"seq": 5}, {"epoch": "e"}, {"epoch": "e", "seq": "5"}, {"epoch": 5, "seq": 5},
                  {"epoch": "e", "seq": True}, {"epoch": "e", "seq": -1},
                  {"epoch": "e", "seq": 2**53}, {"epoch": "a b", "seq": 5}, {"lost": [1]},
                  {"epoch": "e", "seq": 5, "lost": [5]}, {"epoch": "e", "lost": 5}, {"epoch": "e", "lost": ["5"]},
                  {"epoch": "e", "seq": 3, "sent_at": 5}):  # fmt: skip
        message = feed.send({**wrong, "readings": [spo2()]})
        assert (message.dead[0].reason, message.dead[0].item) == ("schema", -1), wrong


def test_lost_numbers_need_no_number_of_their_own() -> None:
    feed = Feed()
    feed.send({"epoch": "e", "seq": 1, "readings": [spo2()]})
    feed.send({"epoch": "e", "seq": 3, "readings": [spo2(index=1)]})
    message = feed.send({"epoch": "e", "lost": [2]})
    assert (message.declared_lost, message.seq, message.epoch) == ([2], NO_SEQ, "e")
    assert message.status is not None
    assert feed.state is not None
    assert sequences.receipts(feed.state)[0]["kept_through"] == 3
    late = feed.send({"epoch": "e", "seq": 2, "readings": [spo2(index=2)]})
    assert not late.repeat
    feed.send({"epoch": "f", "lost": [1, 2]})
    assert feed.send({"epoch": "f", "seq": 3, "readings": [spo2(index=4)]}).epoch_no == 2
    assert sequences.receipts(feed.state)[-1]["kept_through"] == 3
    too_many = feed.send({"epoch": "e", "lost": list(range(1001))})
    assert too_many.dead[0].reason == "too_many"


# --- order, repeats, identity ---------------------------------------------------------------------------------------


def test_order_is_the_devices_own() -> None:
    feed = Feed()
    first = feed.send({"epoch": "b", "seq": 7, "readings": [spo2()]})
    second = feed.send({"epoch": "a", "seq": 1, "readings": [spo2()]})
    earlier = feed.send({"epoch": "b", "seq": 3, "readings": [spo2()]})
    plain = feed.send({"readings": [spo2()]})
    assert [(m.epoch_no, m.order) for m in (first, second, earlier, plain)] == [(1, 7), (2, 1), (1, 3), (0, 3)]
    assert not any(m.repeat for m in (first, second, earlier, plain))
    assert feed.send({"epoch": "b", "seq": 3, "readings": [spo2()]}).repeat


def test_a_resend_is_the_same_content_in_any_form() -> None:
    feed = Feed("ecg-patch")
    samples = [1, 2, 3, -4]
    sint16_be = cbor2.CBORTag(73, b"\0\1\0\2\0\3\xff\xfc")
    block = ecg(samples, recording="r", first_sample=0)
    forms = [
        encode_json({"epoch": "e", "seq": 1, "sent_at": at(), "waveforms": [block]}),
        encode_json({"seq": 1, "epoch": "e", "sent_at": at(1), "lost": [9], "waveforms": [block]}),
        encode_cbor({"epoch": "e", "seq": 1, "waveforms": [block]}),
        cbor2.dumps({"epoch": "e", "seq": 1, "waveforms": [{**block, "samples": pack_samples(samples)}]}),
        cbor2.dumps({"epoch": "e", "seq": 1, "waveforms": [{**block, "samples": sint16_be}]}),
    ]  # fmt: skip
    messages = [feed.send(form, "waveforms") for form in forms]
    ids = {message_id(m.device, m.epoch, m.seq, m.content_hash, m.payload_hash) for m in messages}
    assert len(ids) == 1
    assert [m.repeat for m in messages] == [False, True, True, True, True]
    changed = {"epoch": "e", "seq": 1, "waveforms": [{**block, "samples": [1, 2, 3, 4]}]}
    other = Feed("ecg-patch").send(changed, "waveforms")
    assert other.content_hash != messages[0].content_hash


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(good_message(catalogue.load().kind("ecg-patch")), st.floats(0, 2)), min_size=1, max_size=25),
       st.integers(0, 2**31))  # fmt: skip
def test_reprocessing_gives_the_same_messages_and_changes_nothing(steps: list[Any], seed: int) -> None:
    chance = random.Random(seed)
    feed = Feed("ecg-patch")
    made: list[tuple[RawRecord, Message]] = []
    now = 0.0
    for (leaf, document), pause in steps:
        now += pause
        value = chance.choice(made)[0].value if made and chance.random() < 0.3 else encode_cbor(document)
        raw = feed.raw(value, leaf, seconds=now)
        made.append((raw, feed.again(raw)))
    end = feed.state
    start = chance.randrange(len(made))
    for raw, before in made[start:]:
        after = feed.again(raw)
        assert feed.state is end
        if len(made) < 16:
            assert encode(after) == encode(before)
        else:
            assert after.items() == before.items()


def test_taking_changes_no_state_that_was_given() -> None:
    feed = Feed("ecg-patch")
    feed.send({"epoch": "e", "seq": 3, "sent_at": at(), "waveforms": [ecg([1] * 250)]}, "waveforms")
    assert feed.state is not None
    before = encode(feed.state)
    given_state = feed.state
    feed.send({"epoch": "e", "seq": 3, "sent_at": at(4000), "waveforms": [ecg([1] * 250, 1)]}, "waveforms", seconds=2)
    feed.send({"epoch": "e", "seq": 1, "waveforms": [ecg([1.5])]}, "waveforms", seconds=2)
    feed.send({"epoch": "f", "seq": 1, "lost": [4], "waveforms": [ecg([1])]}, "waveforms", seconds=2)
    assert encode(given_state) == before


def test_a_replay_takes_only_the_item_that_was_refused() -> None:
    feed = Feed()
    content = {"epoch": "e", "seq": 1, "readings": [spo2(), spo2(130), spo2(index=1)]}
    assert [dead.item for dead in feed.send(content).dead] == [1]
    replay = feed.send(content, replay_of=5, replay_item=1)
    assert (replay.items(), replay.dead[0].item, replay.replay_of) == (1, 1, 5)
    fixed = feed.send(content, replay_of=5, replay_item=2)
    assert [reading.item for reading in fixed.readings] == [2]
    assert not fixed.dead
    gone = feed.send(content, replay_of=5, replay_item=9)
    assert gone.dead[0].reason == "schema"
    whole = feed.send(b"junk", replay_of=6, replay_item=-1)
    assert whole.dead[0].reason == "undecodable"
    status = feed.send({"state": "online"}, "status", replay_of=6, replay_item=0)
    assert status.status is not None


def test_a_huge_batch_of_states_stays_small() -> None:
    feed = Feed()
    for n in range(1, 400):
        feed.send(
            {"epoch": "e", "seq": n, "sent_at": at(n), "readings": [spo2(97 if n % 3 else 120, n)]}, seconds=n + 0.1
        )
        if n % 5 == 0:
            feed.send({"epoch": "e", "seq": n - 3, "readings": [spo2(97, n)]}, seconds=n + 0.2)
        assert feed.state is not None
        feed.state = sequences.begin(feed.state)
    assert feed.state is not None
    assert len(encode(feed.state)) < 8000


def test_a_sent_at_that_no_clock_shows_is_refused_and_does_not_become_the_skew() -> None:
    feed = Feed()
    feed.send({"epoch": "e", "seq": 1, "sent_at": at(1), "readings": [spo2()]})
    absurd = feed.send({"epoch": "e", "seq": 2, "sent_at": "9999-12-31T23:59:59Z", "readings": [spo2(96)]})
    assert [(dead.item, dead.reason) for dead in absurd.dead] == [(-1, "time_unexplained")]
    assert "sent_at" in absurd.dead[0].detail
    after = feed.send({"epoch": "e", "seq": 3, "sent_at": at(1), "readings": [spo2(95)]})
    assert (len(after.readings), after.skew_s) == (1, 0)
    assert feed.state is not None
    assert feed.state.epochs[-1].through == 3
