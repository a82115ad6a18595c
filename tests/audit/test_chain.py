"""The audit chain: whatever is done to a trail is found, and where; a writer that starts again writes the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.audit.anchors import AnchorError, add, anchor_of, dump, parse
from vitalgate.audit.chain import GENESIS, Tip, append, tip_of, verify
from vitalgate.audit.checkpoints import good_signature, key_id, load_public, sign
from vitalgate.audit.events import AuditRecord

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
Trail = list[dict[str, Any]]


def _trail(inbox: list[bytes], *, every: int = 5, start: Tip | None = None) -> Trail:
    tip, out = start or Tip(), []
    for offset, data in enumerate(inbox):
        linked = append(tip, offset, data)
        if linked is None:
            continue
        tip, record = linked
        out.append(record)
        if tip.n % every == 0:
            out.append(sign(KEY, tip, record.get("when")))
    return json.loads(json.dumps(out))  # as it comes back from Kafka


def _inbox(count: int = 23) -> list[bytes]:
    return [
        json.dumps({"event_id": f"e{i}", "action": "batch.recorded", "detail": {"items": i}}).encode()
        for i in range(count)
    ]


def _check(trail: Trail) -> tuple[int | None, str]:
    verdict = verify(trail, lambda record: good_signature(record, PUBLIC))
    return (verdict.broken.n, verdict.broken.why) if verdict.broken else (None, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
inbox_bytes = st.dictionaries(st.text(), json_values, max_size=4).map(lambda d: json.dumps(d).encode()) | st.binary()


@given(st.lists(inbox_bytes, max_size=12))
def test_any_inbox_makes_a_chain_that_holds(inbox: list[bytes]) -> None:
    trail = _trail(inbox)
    verdict = verify(trail, lambda record: good_signature(record, PUBLIC))
    assert verdict.broken is None
    assert verdict.tip.n == len(inbox)
    assert verdict.signed_through == len(inbox) // 5 * 5
    for record in trail:
        AuditRecord.model_validate({**record, "when": None, "detail": {}, **dict.fromkeys(
            ["event_id", "who", "action", "entity_type", "entity_id", "where", "outcome"], "")})  # fmt: skip


@given(st.integers(0, 23), st.integers(0, 23))
def test_a_writer_that_starts_again_writes_the_same_links(killed_after: int, committed: int) -> None:
    inbox, whole = _inbox(), _trail(_inbox())
    links = [record for record in whole if not record.get("checkpoint")]
    tip = tip_of(links[killed_after - 1]) if killed_after else Tip()
    written = links[:killed_after]
    for offset in range(min(committed, killed_after), len(inbox)):
        linked = append(tip, offset, inbox[offset])
        if linked:
            tip, record = linked
            written.append(record)
    assert written == links
    # A late writer that knew an older tip can only repeat.
    assert _check([*links[:10], *links[4:]]) == (None, "")


def test_bytes_that_are_no_event_are_kept_in_one() -> None:
    for data in (b"\xff\x00", b"[1]", b'{"hash": "forged"}', b'{"checkpoint": true}', b""):
        linked = append(Tip(), 0, data)
        assert linked is not None
        assert linked[1]["action"] == "audit.unreadable"
        assert linked[1]["previous_hash"] == GENESIS


def _links(trail: Trail, n: int) -> int:
    return next(i for i, record in enumerate(trail) if record["n"] == n and not record.get("checkpoint"))


def _rewritten(trail: Trail, n: int) -> Trail:
    """As somebody who can compute hashes, but has no key, would rewrite the trail from link n on."""
    inbox = _inbox()
    inbox[n - 1] = b'{"event_id":"forged"}'
    return [record for record in _trail(inbox) if not record.get("checkpoint")]


def _change(trail: Trail, n: int) -> None:
    trail[_links(trail, n)]["detail"]["items"] = 999


def _delete(trail: Trail, n: int) -> None:
    del trail[_links(trail, n)]


def _insert(trail: Trail, n: int) -> None:
    forged = copy.deepcopy(trail[_links(trail, n)])
    forged["event_id"] = "forged"
    trail.insert(_links(trail, n), forged)


def _reorder(trail: Trail, n: int) -> None:
    a, b = _links(trail, n), _links(trail, n + 1)
    trail[a], trail[b] = trail[b], trail[a]


def _renumber(trail: Trail, n: int) -> None:
    trail[_links(trail, n)]["n"] = n + 1


def _swap_hash(trail: Trail, n: int) -> None:
    trail[_links(trail, n)]["hash"] = trail[_links(trail, n - 1)]["hash"]


@pytest.mark.parametrize("tamper", [_change, _delete, _insert, _reorder, _renumber, _swap_hash])
@pytest.mark.parametrize("n", [2, 5, 12, 19])
def test_tampering_is_found_at_its_place(tamper: Any, n: int) -> None:
    trail = _trail(_inbox())
    tamper(trail, n)
    found, why = _check(trail)
    assert found is not None and n - 1 <= found <= n + 1, (found, why)


def test_truncation_of_the_middle_and_of_a_signed_tail_is_found() -> None:
    trail = _trail(_inbox())
    assert _check(trail[:6] + trail[12:])[0] == 6
    cut = [record for record in trail if record.get("checkpoint") or record["n"] <= 17]
    assert _check(cut)[0] == 18


def test_a_trail_rewritten_without_the_key_is_found_by_the_checkpoints() -> None:
    honest = _trail(_inbox())
    checkpoints = [record for record in honest if record.get("checkpoint")]
    forged = _rewritten(honest, 7)
    assert _check(forged) == (None, "")  # a chain alone can be made anew
    assert _check([*forged, *checkpoints])[0] == 10
    own = Ed25519PrivateKey.from_private_bytes(bytes(32))
    resigned = [*forged[:10], sign(own, tip_of(forged[9]), None), *forged[10:]]
    assert _check(resigned) == (10, "the signature of its checkpoint is wrong")


def test_a_trail_that_begins_later_says_so() -> None:
    trail = _trail(_inbox())
    verdict = verify(trail[8:])
    assert verdict.broken is None
    assert verdict.first > 1
    first = dict(trail[0], previous_hash="1" * 64)
    assert verify([first]).broken is not None


def test_keys_are_told_apart(tmp_path: Any) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import x25519

    pem = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert key_id(load_public(pem)) == key_id(PUBLIC)
    public = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key_id(load_public(public)) == key_id(PUBLIC)
    other = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="Ed25519 is needed"):
        load_public(other)


def test_anchors_tell_a_cut_a_late_beginning_and_a_replaced_trail() -> None:
    trail = _trail(_inbox())
    anchors = [anchor_of(record) for record in trail if record.get("checkpoint")]
    good = lambda record: good_signature(record, PUBLIC)  # noqa: E731
    assert verify(trail, good, anchors).anchors == len(anchors)
    cut = verify(trail[: _links(trail, 12)], good, anchors)
    assert (cut.broken and cut.broken.n, cut.behind) == (12, True)
    late = verify(trail[_links(trail, 8) :], good, anchors)
    assert (late.broken and late.broken.n, late.behind) == (5, False)
    assert verify(trail[_links(trail, 8) :], good, whole=True).broken is not None
    replaced = verify(_rewritten(trail, 3), good, anchors)
    assert replaced.broken is not None and replaced.broken.n == 5
    assert parse(dump(anchors)) == anchors


@given(st.lists(st.integers(1, 10_000), max_size=60, unique=True))
def test_a_file_of_anchors_is_bounded_and_keeps_the_newest(numbers: list[int]) -> None:
    held: Trail = []
    for n in sorted(numbers):
        held = add(held, {"n": n, "hash": f"{n:064x}"}, limit=16)
        assert len(held) <= 16
        assert held[-1]["n"] == n
    assert [anchor["n"] for anchor in held][-8:] == sorted(numbers)[-8:]


@pytest.mark.parametrize("line", ["{}", "[1]", "x", '{"n":true,"hash":"%s","signature":""}' % ("0" * 64)])
def test_what_is_no_anchor_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(AnchorError, match="line 2"):
        parse(f"\n{line}\n")


@pytest.mark.parametrize(
    "odd", [{}, {"n": "1"}, {"n": 24, "hash": 1}, {"checkpoint": True}, {"checkpoint": True, "n": None}]
)
def test_a_strangers_record_breaks_the_trail_and_not_the_verifier(odd: dict[str, Any]) -> None:
    trail = _trail(_inbox())
    found, _ = _check([*trail[: _links(trail, 9)], odd, *trail[_links(trail, 9) :]])
    assert found == 9
