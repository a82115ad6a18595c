"""Receipts, alert board, reconciliation, credentials, log tail: decisions without a broker."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.devices import records
from vitalgate.gateway import credentials, dynsec
from vitalgate.gateway.address import backoff
from vitalgate.gateway.alert_board import AlertBoard
from vitalgate.gateway.alert_topics import alert_topic
from vitalgate.gateway.broker_watch import LogTail
from vitalgate.gateway.consume import Offsets
from vitalgate.gateway.dynsec import BrokerClient
from vitalgate.gateway.receipts import Coalescer, Position, Receipt, receipt_of_dead_letter
from vitalgate.gateway.reconcile import plan
from vitalgate.gateway.ticks import tick_value

PLACE = Position("t", 0, 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.floats(0, 0.5)), max_size=60))
def test_coalescing_sends_the_latest_of_each_and_not_too_often(updates: list[tuple[str, str, float]]) -> None:
    coalescer = Coalescer(0.2)
    now = 0.0
    sent: dict[str, list[float]] = {}
    latest: dict[tuple[str, str], bytes] = {}
    got: dict[tuple[str, str], bytes] = {}

    def collect() -> None:
        for receipt, _ in coalescer.due(now, 10):
            if not sent.get(receipt.device) or sent[receipt.device][-1] != now:
                sent.setdefault(receipt.device, []).append(now)
            got[receipt.device, receipt.epoch] = receipt.payload

    for number, (device, epoch, pause) in enumerate(updates):
        fresh = device not in sent
        coalescer.offer(Receipt(device, epoch, b"%d" % number), PLACE, now)
        latest[device, epoch] = b"%d" % number
        collect()
        if fresh:
            assert got[device, epoch] == b"%d" % number  # the first goes at once
        now += pause
        collect()
    while len(coalescer):
        wait = coalescer.wait(now, 1.0)
        assert wait <= 0.2 + 1e-9
        now += max(wait, 1e-6)
        collect()
    assert got == latest
    for times in sent.values():
        assert all(b - a > 0.2 - 1e-5 for a, b in itertools.pairwise(times))


def test_a_refusal_found_later_is_not_replaced_by_the_next_receipt() -> None:
    coalescer = Coalescer(1.0)
    coalescer.offer(Receipt("d", "e", b"first"), PLACE, 0.0)
    assert len(coalescer.due(0.0, 10)) == 1
    coalescer.offer(Receipt("d", "e", b"refusal"), PLACE, 0.1, extra=True)
    coalescer.offer(Receipt("d", "e", b"second"), PLACE, 0.2)
    coalescer.offer(Receipt("d", "e", b"third"), Position("t", 0, 9), 0.3)
    assert coalescer.positions() == [PLACE, Position("t", 0, 9)]
    assert coalescer.due(0.9, 10) == []
    assert [receipt.payload for receipt, _ in coalescer.due(1.0, 10)] == [b"refusal", b"third"]


def test_only_what_the_recorder_finds_makes_a_receipt_of_a_dead_letter() -> None:
    dead = {"device_id": "d", "epoch": "e", "seq": 4, "reason": "sequence_reused", "detail": "x"}
    receipt = receipt_of_dead_letter(dead, records.Kept("e", 1, 9, [(11, 12)]))
    assert receipt is not None
    assert json.loads(receipt.payload) == {
        "epoch": "e", "kept_through": 9, "beyond": [[11, 12]],
        "rejected": [{"seq": 4, "reason": "sequence_reused", "detail": "x"}],
    }  # fmt: skip
    unknown = receipt_of_dead_letter(dead, None)
    assert unknown is not None
    assert json.loads(unknown.payload)["kept_through"] == -1
    for change in ({"reason": "schema"}, {"epoch": ""}, {"seq": -1}, {"seq": None}, {"device_id": ""}):
        assert receipt_of_dead_letter({**dead, **change}, None) is None


class _Message:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


def test_nothing_is_committed_beyond_what_is_under_way() -> None:
    offsets = Offsets()
    for n in range(5):
        offsets.consumed(_Message(n))  # type: ignore[arg-type]
    (first,) = offsets.ready([Position("t", 0, 2), Position("t", 0, 4), Position("other", 0, 0)])
    assert first.offset == 2
    assert offsets.ready([Position("t", 0, 2)]) == []
    (second,) = offsets.ready([])
    assert second.offset == 5


def alert(**fields: str) -> bytes:
    return json.dumps({"team": "care", "patient": "p1", "alert_id": "a1", **fields}).encode()


def test_the_board_follows_an_alert_through_its_life() -> None:
    board = AlertBoard()
    (opened,) = board.apply(b"k", alert())
    assert opened == ("v1/alerts/care/p1/a1", alert())
    assert board.is_open("v1/alerts/care/p1/a1")
    removed, moved = board.apply(b"k", alert(team="night"))
    assert removed == ("v1/alerts/care/p1/a1", b"")
    assert moved.topic == "v1/alerts/night/p1/a1"
    assert board.all() == [moved]
    with pytest.raises(ValueError, match="not an alert"):
        board.apply(b"k", b"[]")
    with pytest.raises(ValueError, match="not an alert"):
        board.apply(b"k", b'{"team":"care"}')
    assert board.apply(b"k", None) == [("v1/alerts/night/p1/a1", b"")]
    assert board.apply(b"k", None) == []
    assert len(board) == 0


@given(st.text(max_size=20))
def test_no_name_can_leave_its_topic_level(name: str) -> None:
    topic = alert_topic({"team": name, "patient": name, "alert_id": name})
    assert topic.count("/") == 4
    assert not set(topic) & set("+#\0")
    assert all(topic.split("/"))


def test_reconciling_touches_devices_only() -> None:
    device = frozenset({dynsec.DEVICE_ROLE})
    broker = {
        "on": BrokerClient("on", device, False),
        "off": BrokerClient("off", device, True),
        "revoked": BrokerClient("revoked", device, False),
        "gone": BrokerClient("gone", device, True),
        "stranger": BrokerClient("stranger", device, False),
        "vg-admin": BrokerClient("vg-admin", frozenset({"admin"}), False),
    }
    found = plan({"on": True, "off": True, "revoked": False, "gone": False, "lost": True, "old": False}, broker)
    assert found.commands == [dynsec.enable("off"), dynsec.disable("revoked"), dynsec.delete("stranger")]
    assert (found.missing, found.disabled, found.removed) == (["lost"], ["revoked"], ["stranger"])


def test_the_stored_hash_is_the_one_that_mosquitto_makes(tmp_path: Path) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not on this machine (Debian, Ubuntu: apt-get install mosquitto)")
    password = credentials.new_password()
    file = tmp_path / "users"
    file.touch()
    subprocess.run([program, "-b", str(file), "device", password], check=True, timeout=20, capture_output=True)
    theirs = file.read_text().strip().partition(":")[2]
    assert credentials.matches(password, theirs)
    assert not credentials.matches(password + "x", theirs)
    ours = credentials.hash_password(password)
    assert credentials.matches(password, ours)
    assert [len(part) for part in ours.split("$")] == [len(part) for part in theirs.split("$")]


def test_passwords_are_random_and_need_no_quoting() -> None:
    made = {credentials.new_password() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(p) == 24 and p.replace("-", "").replace("_", "").isalnum() for p in made)
    for wrong in ("", "$6$101$a$b", "$7$x$a$b", "plain"):
        with pytest.raises(credentials.BadHash):
            credentials.split_hash(wrong)


def test_restoring_keeps_other_users_and_brings_the_role() -> None:
    entry = credentials.client_entry("d", credentials.hash_password("x"), revoked=True)
    assert entry["disabled"] is True
    stale = {"username": "old", "roles": [{"rolename": "device"}]}
    document = {"clients": [{"username": "vg-admin", "roles": [{"rolename": "admin"}]}, stale], "roles": []}
    restored = credentials.restore(document, [entry])
    assert [client["username"] for client in restored["clients"]] == ["vg-admin", "d"]
    assert restored["roles"] == [{"rolename": "clinician", "acls": []}, {"rolename": "device", "acls": []}]
    # A clinician comes with a role of their own; one that is nobody's any more goes.
    own = credentials.clinician_role("anna", ["care"])
    assert own["rolename"] == "clinician-anna"
    assert {rule["topic"] for rule in own["acls"]} >= {"v1/alerts/care/events", "v1/alerts/care/+/+/commands/anna"}
    restored["roles"].append({"rolename": "clinician-gone", "acls": []})
    person = credentials.clinician_entry("anna", credentials.hash_password("x"), revoked=False)
    again = credentials.restore(restored, [entry, person], [own])
    assert [client["username"] for client in again["clients"]] == ["vg-admin", "d", "anna"]
    assert [role["rolename"] for role in again["roles"]] == ["clinician", "device", "clinician-anna"]


def test_the_log_is_counted_through_cuts_and_replacement(tmp_path: Path) -> None:
    log = tmp_path / "mosquitto.log"
    denied = "2026-11-21T17:29:31: Denied PUBLISH from x (d0, q1, r0, m1, 'a/b', ... (1 bytes))\n"
    log.write_text(denied)
    tail = LogTail(log)
    assert tail.count() == 0  # what was there before is not ours to count
    with log.open("a") as stream:
        stream.write(denied + "2026: Client <unknown> disconnected, not authorised.\n" + denied[:20])
        stream.flush()
        assert tail.count() == 2
        stream.write(denied[20:] + "2026: New client connected\n")
    assert tail.count() == 1
    log.write_text(denied)  # cut to nothing, as rotation does
    assert tail.count() == 1
    log.unlink()
    assert tail.count() == 0
    log.write_text(denied * 3)
    assert tail.count() == 3


def test_waits_between_attempts_grow_and_vary() -> None:
    waits = backoff(0.2, 10.0)
    made = [next(waits) for _ in range(10)]
    assert 0.1 <= made[0] <= 0.2
    assert all(5.0 <= wait <= 10.0 for wait in made[7:])


def test_a_tick_says_its_time_twice() -> None:
    assert json.loads(tick_value(1_795_258_800_250_000)) == {
        "time": "2026-11-21T11:00:00.250Z", "time_us": 1_795_258_800_250_000,
    }  # fmt: skip
