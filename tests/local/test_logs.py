"""Logs: rotation under a process that goes on writing, and the sieve for the broker's chatter."""

from __future__ import annotations

from pathlib import Path

from vitalgate.local.logs import Sieve, rotate, tail
from vitalgate.local.mosquitto import worth_keeping


def test_a_log_above_the_limit_is_moved_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    with path.open("ab", buffering=0) as writer:
        for round_ in range(5):
            writer.write(b"%d" % round_ * 100)
            assert rotate(path, 50)
            assert path.stat().st_size == 0
        writer.write(b"small")
        assert not rotate(path, 50)
    assert path.read_bytes() == b"small"
    kept = sorted(tmp_path.iterdir())
    assert [item.name for item in kept] == ["one.log", "one.log.1", "one.log.2", "one.log.3"]
    assert [item.read_bytes()[:1] for item in kept[1:]] == [b"4", b"3", b"2"]


def test_rotating_a_log_that_is_not_there_does_nothing(tmp_path: Path) -> None:
    assert not rotate(tmp_path / "none.log", 1)


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    path.write_text("\n".join(str(n) for n in range(10_000)))
    assert tail(path, 3) == "9997\n9998\n9999"
    assert tail(tmp_path / "none.log") == ""


def test_the_sieve_keeps_whole_lines_whatever_pieces_they_come_in(tmp_path: Path) -> None:
    sieve = Sieve(tmp_path / "one.log", lambda line: b"keep" in line)
    with sieve.raw.open("ab", buffering=0) as writer:
        for piece in (b"keep 1\nnoi", b"se\nke", b"ep 2\n", b"", b"keep 3"):
            writer.write(piece)
            sieve.sift()
        assert (tmp_path / "one.log").read_text() == "keep 1\nkeep 2\n"
        writer.write(b"\n")
        assert sieve.sift() == 1
    assert (tmp_path / "one.log").read_text() == "keep 1\nkeep 2\nkeep 3\n"


def test_the_sieve_cuts_what_it_has_read(tmp_path: Path) -> None:
    sieve = Sieve(tmp_path / "one.log", lambda line: line.startswith(b"last"))
    with sieve.raw.open("ab", buffering=0) as writer:
        writer.write(b"x" * 99 + b"\n")
        writer.write((b"x" * 99 + b"\n") * 50_000)
        sieve.sift()
        assert sieve.raw.stat().st_size == 0
        writer.write(b"last\n")
        sieve.sift()
    assert (tmp_path / "one.log").read_text() == "last\n"


def test_refusals_and_connections_are_kept_and_packets_are_not() -> None:
    at = b"2026-11-21T10:00:00: "
    keep = [
        b"Denied PUBLISH from dev1 (d0, q1, r0, m6, 'v1/devices/other/readings', ... (4 bytes))",
        b"New client connected from 127.0.0.1:49659 as dev1 (p2, c1, k60, u'dev1').",
        b"Client dev1 disconnected.",
        b"Error: Address already in use",
    ]
    drop = [
        b"Received PUBLISH from dev1 (d0, q1, r0, m2, 'v1/devices/dev1/readings', ... (2 bytes))",
        b"Sending PUBACK to dev1 (m2, rc0)",
        b"Received PINGREQ from dev1",
        b"No will message specified.",
        b"\tv1/devices/+/readings (QoS 1)",
        b"vg-gateway 1 v1/devices/+/readings (QoS 1)",
    ]
    assert [line for line in keep if not worth_keeping(at + line)] == []
    assert [line for line in drop if worth_keeping(at + line)] == []
