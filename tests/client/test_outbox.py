"""The outbox file: bounds, restarts, restored backups."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vitalgate.client import MemoryOutbox, Outbox, OutboxFull, Receipt, Rejected
from vitalgate.client.outbox import OutboxError


def test_messages_outlive_the_process_with_their_numbers(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "outbox")
    keys = [first.add("readings", b'{"n":%d}' % n) for n in range(5)]
    assert keys == [(first.epoch, n) for n in range(1, 6)]
    first.close()
    second = Outbox(tmp_path / "outbox")
    assert second.epoch != first.epoch
    assert [key for _, key in second.front()] == keys
    assert second.add("readings", b"{}") == (second.epoch, 1)
    assert second.settle(Receipt(first.epoch, 5)).kept == keys
    assert [key for _, key in second.front()] == [(second.epoch, 1)]
    assert second.size() == 2


def test_a_killed_process_keeps_what_it_was_told_is_stored(tmp_path: Path) -> None:
    program = (
        "import os, sys; from vitalgate.client import Outbox; box = Outbox(sys.argv[1])\n"
        "for n in range(50): box.add('readings', b'{\"n\":%d}' % n)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "outbox")], check=False, timeout=60)
    assert done.returncode == -9
    assert len(Outbox(tmp_path / "outbox")) == 50


def test_a_restored_backup_gives_no_number_twice(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox")
    box.add("readings", b'{"a":1}')
    box.close()
    shutil.copy(tmp_path / "outbox", tmp_path / "backup")
    later = Outbox(tmp_path / "outbox")
    sent = {later.add("readings", b'{"b":1}') for _ in range(3)}
    later.close()
    restored = Outbox(tmp_path / "backup")
    assert restored.add("readings", b'{"c":1}') not in sent


def test_a_full_outbox_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    for box in (Outbox(tmp_path / "outbox", max_bytes=100), MemoryOutbox(max_bytes=100)):
        key = box.add("readings", b"{" + b" " * 60 + b"}")
        with pytest.raises(OutboxFull, match="100"):
            box.add("readings", b"{" + b" " * 60 + b"}")
        assert len(box) == 1
        assert box.discard(key) is not None
        assert box.discard(key) is None
        assert box.size() == 0
        box.add("readings", b"{" + b" " * 60 + b"}")


def test_refused_messages_are_kept_for_a_look(tmp_path: Path) -> None:
    for box in (Outbox(tmp_path / "outbox"), MemoryOutbox()):
        for n in range(3):
            box.add("readings", b'{"n":%d}' % n)
        refusal = Rejected(box.epoch, 2, "schema", "no such field")
        settled = box.settle(Receipt(box.epoch, 2, (), (refusal,)))
        assert settled.rejected == [refusal]
        assert settled.kept == [(box.epoch, 1)]
        assert box.settle(Receipt(box.epoch, 2, (), (refusal,))).rejected == []
        ((rejected, stored),) = box.rejected()
        assert (rejected, stored.body) == (refusal, b'{"n":1}')
        assert [key[1] for _, key in box.front()] == [3]
        assert box.replace((box.epoch, 3), "status", b'{"lost":[3]}')
        assert not box.replace((box.epoch, 1), "status", b"{}")
        stored_three = box.get((box.epoch, 3))
        assert stored_three is not None
        assert stored_three.leaf == "status"
        assert box.size() == len(b'{"lost":[3]}')


def test_two_processes_cannot_share_an_outbox(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "outbox")
    box.add("readings", b"{}")
    with pytest.raises(OutboxError, match="another process"):
        Outbox(tmp_path / "outbox")
    box.close()
    assert len(Outbox(tmp_path / "outbox")) == 1


def test_the_front_is_read_in_pieces(tmp_path: Path) -> None:
    for box in (Outbox(tmp_path / "outbox"), MemoryOutbox()):
        keys = [box.add("readings", b"{}") for _ in range(10)]
        seen, place = [], 0
        while piece := box.front(place, 3):
            assert len(piece) <= 3
            place = piece[-1][0]
            seen += [key for _, key in piece]
        assert seen == keys
