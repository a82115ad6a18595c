"""Manifests tell what is missing or changed; what is kept of devices' numbering is brought forward as intake would."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.config.loading import load
from vitalgate.devices.records import DeviceSequences
from vitalgate.devices.sequences import contains, find, gaps
from vitalgate.stream.manifest import BackupError, Manifest, keys_of, read
from vitalgate.stream.sequences_forward import brought_forward


def manifest() -> Manifest:
    return Manifest("2026-11-22T00:00:00Z", "1", "vitalgate", "", 4, "c", {}, {}, {}, {}, True, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "device.sequences.jsonl.gz").write_bytes(b"records")
    (tmp_path / "database.dump").write_bytes(b"rows")
    manifest().write(tmp_path)
    return tmp_path


def test_a_whole_backup_is_read(folder: Path) -> None:
    assert set(read(folder).files) == {"database.dump", "kafka/device.sequences.jsonl.gz"}


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "database.dump").write_bytes(b"r0ws"), "checksum differs"),
        (lambda folder: (folder / "database.dump").write_bytes(b"row"), "checksum differs"),
        (lambda folder: (folder / "kafka" / "device.sequences.jsonl.gz").unlink(), "is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "is no backup"),
        (lambda folder: (folder / "manifest.json").write_text("[1"), "cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text('{"format":2}'), "another format"),
        (lambda folder: (folder / "manifest.json").write_text('{"format":1}'), "not complete"),
    ],
)
def test_what_is_missing_or_changed_is_named(folder: Path, harm: object, says: str) -> None:
    harm(folder)  # type: ignore[operator]
    with pytest.raises(BackupError, match=says):
        read(folder)


def test_keys_are_what_settings_name_as_files_of_secrets() -> None:
    flags = {"audit.signing_key_file": "/k/sign.pem", "audit.anchor_file": "/a", "mqtt.password_file": "/k/mqtt"}
    found = keys_of(load(flags=flags, env={}, data="/nowhere").settings)
    assert found["audit.signing_key_file"] == "/k/sign.pem" and found["mqtt.password_file"] == "/k/mqtt"
    assert "audit.anchor_file" not in found


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["e1", "e2"]), st.integers(0, 30)), max_size=40),
    st.integers(0, 40),
)
def test_numbers_of_the_database_are_kept_as_if_they_had_come_again(
    numbers: list[tuple[str, str, int]], cut: int
) -> None:
    rows = [(device, epoch, seq, {"e1": 1, "e2": 2}[epoch], at) for at, (device, epoch, seq) in enumerate(numbers)]
    before = brought_forward([], rows[:cut])
    after = brought_forward(before.values(), rows)  # what is known already is told again
    assert _same(after, brought_forward([], rows))
    for device, epoch, seq in numbers:
        kept = find(after[device], epoch)
        assert kept is not None and contains(kept, seq)
    for state in after.values():
        assert [one.epoch_no for one in state.epochs] == sorted(one.epoch_no for one in state.epochs)
        for kept in state.epochs:
            told = {seq for device, epoch, seq in numbers if (device, epoch) == (state.device, kept.epoch)}
            missing = {n for low, high in gaps(kept) for n in range(low, high + 1)}
            assert not missing & told


def _same(one: dict[str, DeviceSequences], other: dict[str, DeviceSequences]) -> bool:
    """But for the moment at which a gap was first seen."""
    return {
        name: [(kept.epoch, kept.through, kept.beyond, kept.zero) for kept in state.epochs]
        for name, state in one.items()
    } == {
        name: [(kept.epoch, kept.through, kept.beyond, kept.zero) for kept in state.epochs]
        for name, state in other.items()
    }
