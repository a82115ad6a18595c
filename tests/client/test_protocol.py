"""The pure side of a device: numbering, resending, receipts."""

from __future__ import annotations

import json
import random
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitalgate.client import (
    MemoryOutbox,
    Outbox,
    Policy,
    Receipt,
    ReceiptError,
    Rejected,
    Tracker,
    message,
    read_receipt,
)
from vitalgate.devices.codec import encode_cbor, encode_json


class Server:
    """Keeps numbers as intake does, and says so in receipts."""

    def __init__(self, refuse: frozenset[int] = frozenset()) -> None:
        self.kept: set[int] = set()
        self.refuse = refuse
        self.copies = 0

    def take(self, payload: bytes) -> bytes:
        document = json.loads(payload)
        seq = document["seq"]
        self.copies += seq in self.kept
        self.kept.add(seq)
        through = 0
        while through + 1 in self.kept:
            through += 1
        beyond = [[n, n] for n in sorted(self.kept) if n > through]
        rejected = [{"seq": n, "reason": "schema", "detail": ""} for n in sorted(self.refuse & self.kept)]
        return json.dumps(
            {"epoch": document["epoch"], "kept_through": through, "beyond": beyond, "rejected": rejected}
        ).encode()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 80),
    loss=st.sampled_from([0.0, 0.2, 0.6]),
    refused=st.frozensets(st.integers(1, 80), max_size=4),
    sqlite=st.booleans(),
)
def test_over_a_lossy_network_all_arrives_and_nothing_leaves_the_outbox_before_its_receipt(
    seed: int, count: int, loss: float, refused: frozenset[int], sqlite: bool
) -> None:
    chance = random.Random(seed)
    outbox: Outbox | MemoryOutbox = Outbox(":memory:") if sqlite else MemoryOutbox()
    tracker = Tracker(Policy(first_s=2, cap_s=20, window=16), chance.random)
    server = Server(refused)
    now = 0.0
    wires: list[tuple[float, int, str, bytes]] = []  # (arrival, tie, direction, bytes)
    told: set[int] = set()
    connected, sent = False, 0
    while outbox_left(outbox, sent, count):
        now += 0.25
        assert now < 6_000, f"{len(tracker)} of {count} never came through"
        if sent < count and chance.random() < 0.5:
            sent += 1
            tracker.add(*outbox.add("readings", encode_json({"readings": [{"value": sent}]})), now)
        if chance.random() < 0.02 or not connected:
            connected = not connected
            wires.clear()  # what was on its way is gone
            tracker.connected(now) if connected else tracker.disconnected()
        due = tracker.due(now)
        assert len(due) <= 16
        for key in due:
            stored = outbox.get(key)
            assert stored is not None
            tracker.sent(key, now)
            for _ in range(1 + (chance.random() < 0.1)):  # duplicated on the way
                if chance.random() >= loss:
                    payload = message(stored.body, *key, now)
                    wires.append((now + 3 * chance.random(), chance.getrandbits(30), "up", payload))
        arrived = sorted(item for item in wires if item[0] <= now)
        wires = [item for item in wires if item[0] > now]
        for _, tie, direction, payload in arrived:
            if direction == "up":
                answer = server.take(payload)
                if chance.random() >= loss:
                    wires.append((now + 3 * chance.random(), tie, "down", answer))
                continue
            receipt = read_receipt(payload)
            told |= {n for n in range(1, count + 1) if receipt.covers(n)}
            settled = outbox.settle(receipt)
            assert tracker.receipt(receipt) == settled
        # Nothing has left the outbox that no receipt named.
        assert {key[1] for _, key in outbox.front()} == set(range(1, sent + 1)) - told
    assert server.kept == set(range(1, count + 1))
    assert {item.seq for item, _ in outbox.rejected()} == {n for n in refused if n <= count}
    assert tracker.next_due() is None
    assert outbox.size() == 0


def outbox_left(outbox: Outbox | MemoryOutbox, sent: int, count: int) -> bool:
    return sent < count or len(outbox) > 0


def test_waits_double_up_to_a_cap_and_vary() -> None:
    policy = Policy(first_s=5, cap_s=60, jitter=0.2)
    assert [policy.wait(n, 0.5) for n in (1, 2, 3, 4, 5, 50)] == [5, 10, 20, 40, 60, 60]
    assert policy.wait(1, 0.0) == pytest.approx(4.0)
    assert policy.wait(1, 0.999) == pytest.approx(6.0, abs=0.01)


def test_a_reconnect_makes_everything_due_and_the_window_holds() -> None:
    tracker = Tracker(Policy(window=3), lambda: 0.5)
    for seq in range(1, 6):
        tracker.add("e", seq, 0.0)
    assert tracker.due(1.0) == []  # no connection yet
    tracker.connected(1.0)
    assert tracker.due(1.0) == [("e", 1), ("e", 2), ("e", 3)]
    for key in tracker.due(1.0):
        tracker.sent(key, 1.0)
    assert tracker.due(1.0) == []
    assert tracker.next_due() == 6.0
    tracker.disconnected()
    assert tracker.next_due() is None
    tracker.connected(2.0)
    assert tracker.due(2.0) == [("e", 1), ("e", 2), ("e", 3)]
    assert tracker.receipt(Receipt("e", 1)).kept == [("e", 1)]
    assert tracker.due(2.0) == [("e", 2), ("e", 3), ("e", 4)]


def test_a_receipt_of_another_epoch_settles_nothing() -> None:
    tracker = Tracker()
    tracker.add("old", 1, 0.0)
    tracker.add("new", 1, 0.0)
    assert tracker.receipt(Receipt("other", 9)).kept == []
    assert tracker.receipt(Receipt("old", 9)).kept == [("old", 1)]
    assert tracker.keys() == [("new", 1)]


def test_beyond_and_rejected_settle_without_the_numbers_before_them() -> None:
    tracker = Tracker()
    for seq in range(1, 8):
        tracker.add("e", seq, 0.0)
    refusal = Rejected("e", 6, "schema", "why")
    settled = tracker.receipt(Receipt("e", 1, ((3, 4),), (refusal, Rejected("e", 99, "schema", ""))))
    assert settled.kept == [("e", 1), ("e", 3), ("e", 4)]
    assert settled.rejected == [refusal]
    assert tracker.keys() == [("e", 2), ("e", 5), ("e", 7)]


@pytest.mark.parametrize("encode", [encode_json, encode_cbor])
@pytest.mark.parametrize("document", [{"readings": [{"metric": "spo2", "value": 97}]}, {}])
def test_the_number_and_the_time_of_sending_are_put_in_front(encode: Any, document: dict[str, Any]) -> None:
    payload = message(encode(document), "k3f9", 17, 1_795_258_800.25)
    decoded = json.loads(payload) if payload[:1] == b"{" else cbor2.loads(payload)
    assert decoded == {"epoch": "k3f9", "seq": 17, "sent_at": "2026-11-21T11:00:00.250Z", **document}


def test_a_device_without_a_clock_sends_no_time() -> None:
    assert json.loads(message(b'{"a":1}', "e", 1, None)) == {"epoch": "e", "seq": 1, "a": 1}


@pytest.mark.parametrize("body", [b"[1]", b"", b"\x81\x01", b"\xb5"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="body must be"):
        message(body, "e", 1, 0.0)


def test_a_receipt_is_read_with_unknown_fields_and_without_optional_ones() -> None:
    assert read_receipt(b'{"epoch":"e","kept_through":3,"new":1}') == Receipt("e", 3)
    full = b'{"epoch":"e","kept_through":3,"beyond":[[5,6]],"rejected":[{"seq":2,"reason":"schema","detail":"d"}]}'
    assert read_receipt(full) == Receipt("e", 3, ((5, 6),), (Rejected("e", 2, "schema", "d"),))


@given(st.one_of(st.binary(max_size=60), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["epoch", "kept_through", "beyond", "rejected", "seq"]), inner, max_size=4),
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_bytes_are_a_receipt_or_an_error(payload: bytes) -> None:
    try:
        receipt = read_receipt(payload)
    except ReceiptError:
        return
    assert isinstance(receipt.epoch, str)
    assert not receipt.covers(receipt.kept_through + 10**9)
