"""Sealed fields: what comes back, what does not, and what a key's rotation changes."""

from __future__ import annotations

import base64
import os
import stat
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.config.loading import SettingsError
from vitalgate.pki import keyring, sealing

TODAY = date(2026, 1, 31)
RING = keyring.new_ring(TODAY)
NEXT = keyring.rotated(RING, TODAY, ("seal", "index"))


@given(st.text() | st.binary(max_size=300), st.text(min_size=1))
def test_a_value_comes_back_under_its_context_and_by_a_later_ring(value: str | bytes, context: str) -> None:
    plain = value.encode() if isinstance(value, str) else value
    sealed = sealing.seal(RING, value, context)
    assert sealing.unseal(RING, sealed, context) == plain
    assert sealing.unseal(NEXT, sealed, context) == plain
    assert sealing.sealed_by(sealed) == RING.seals[0].id


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    sealed = bytearray(sealing.seal(RING, "Ångström, Ada", "person/p-1/name"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(sealing.SealError):
        sealing.unseal(RING, bytes(sealed), "person/p-1/name")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_a_seal_error_only(junk: bytes) -> None:
    with pytest.raises(sealing.SealError):
        sealing.unseal(RING, junk, "person/p-1/name")


@given(st.integers(0, 200))
def test_a_cut_value_is_noticed(left: int) -> None:
    sealed = sealing.seal(RING, "A" * 40, "c")
    with pytest.raises(sealing.SealError):
        sealing.unseal(RING, sealed[: min(left, len(sealed) - 1)], "c")


def test_a_value_moved_to_another_person_cannot_be_unsealed() -> None:
    sealed = sealing.seal(RING, "Ada", "person/p-1/name")
    with pytest.raises(sealing.BrokenSeal, match="does not belong to 'person/p-2/name'"):
        sealing.unseal(RING, sealed, "person/p-2/name")


def test_equal_values_are_sealed_differently_and_short_ones_alike_in_length() -> None:
    ada, again, grace = (sealing.seal(RING, name, "n") for name in ("Ada", "Ada", "Grace Brewster Hopper"))
    assert ada != again
    assert len(ada) == len(grace)
    assert b"Ada" not in ada and b"Grace" not in grace


def test_rotation_rewraps_without_touching_the_value_and_then_needs_no_old_key() -> None:
    old = sealing.seal(RING, "Ada", "n")
    new = sealing.rewrap(NEXT, old)
    assert sealing.sealed_by(new) == NEXT.seals[0].id
    assert new[-60:] == old[-60:]
    assert sealing.rewrap(NEXT, new) == new
    only_new = keyring.without(NEXT, RING.seals[0].id)
    assert sealing.unseal(only_new, new, "n") == b"Ada"
    with pytest.raises(sealing.UnknownKey, match=RING.seals[0].id):
        sealing.unseal(only_new, old, "n")


def test_a_key_of_the_same_name_but_other_bytes_opens_nothing() -> None:
    other = keyring.KeyRing((keyring.Key(RING.seals[0].id, os.urandom(32)),), RING.indexes)
    with pytest.raises(sealing.BrokenSeal):
        sealing.unseal(other, sealing.seal(RING, "Ada", "n"), "n")


@given(st.text(), st.text())
def test_blind_indexes_are_equal_for_equal_values_of_one_field_only(one: str, two: str) -> None:
    index = sealing.blind_index(RING, "name", one)
    assert (sealing.blind_index(RING, "name", two) == index) == (one == two)
    assert sealing.blind_index(RING, "city", one) != index
    assert sealing.blind_index(keyring.new_ring(TODAY), "name", one) != index


def test_field_and_value_cannot_be_shifted_into_each_other() -> None:
    assert sealing.blind_index(RING, "ab", "c") != sealing.blind_index(RING, "a", "bc")


def test_what_an_earlier_key_indexed_is_still_searched_for() -> None:
    stored = sealing.blind_index(RING, "name", "ada")
    wanted = sealing.blind_indexes(NEXT, "name", "ada")
    assert stored in wanted
    assert wanted[0] == sealing.blind_index(NEXT, "name", "ada") != stored
    assert sealing.indexed_by(stored) == RING.indexes[0].id


@given(st.text())
def test_folding_is_stable(text: str) -> None:
    assert sealing.fold(sealing.fold(text)) == sealing.fold(text)


def test_folding_ignores_case_width_and_spaces() -> None:
    assert sealing.fold("  ADA   Łukasz ") == sealing.fold("Ａda łukasz")


def test_too_long_and_without_context_are_refused() -> None:
    with pytest.raises(ValueError, match="limit is 1048576"):
        sealing.seal(RING, bytes(sealing.MAX_BYTES + 1), "c")
    with pytest.raises(ValueError, match="needs a context"):
        sealing.seal(RING, "Ada", "")


def test_a_ring_is_read_as_it_was_written_and_only_its_owner_may(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keyring.write(path, NEXT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyring.read(str(path)) == NEXT
    keyring.write(path, RING)
    assert keyring.read(str(path)) == RING
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_a_ring_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_KEYS", RING.text())
    assert keyring.read("env:IDENTITY_KEYS") == RING
    monkeypatch.delenv("IDENTITY_KEYS")
    with pytest.raises(SettingsError, match="IDENTITY_KEYS"):
        keyring.read("env:IDENTITY_KEYS")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no seal key"),
        ("seal one", "line 1 .* must be"),
        ("seal one !!!!", "not base64"),
        (f"seal one {base64.b64encode(b'short').decode()}", "has 5 bytes; 32 are needed"),
        (f"seal o/e {base64.b64encode(bytes(32)).decode()}", "key id 'o/e'"),
        ("\n".join([f"seal one {base64.b64encode(bytes(32)).decode()}"] * 2), "same id"),
        (f"seal one {base64.b64encode(bytes(32)).decode()}", "no index key"),
    ],
)
def test_a_bad_ring_says_what_is_wrong_and_shows_no_key(text: str, why: str) -> None:
    if "same id" in why:
        text += f"\nindex i {base64.b64encode(bytes(32)).decode()}"
    with pytest.raises(keyring.BadKeyRing, match=why) as caught:
        keyring.parse(text)
    assert base64.b64encode(bytes(32)).decode() not in str(caught.value)


def test_keys_are_not_shown_by_repr() -> None:
    assert base64.b64encode(RING.seals[0].secret).decode() not in repr(RING)
    assert repr(RING.seals[0].secret) not in repr(RING)


def test_the_current_key_cannot_be_taken_off() -> None:
    with pytest.raises(keyring.BadKeyRing, match="is in use"):
        keyring.without(RING, RING.seals[0].id)
    with pytest.raises(keyring.BadKeyRing, match="not on the key ring"):
        keyring.without(RING, "s-nobody")
