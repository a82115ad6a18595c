"""Samples at rest come back bit for bit, whatever they are and however they are packed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.storage import packing

INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(INT32 | st.integers(-5, 5), max_size=600), st.booleans())
def test_any_samples(values: list[int], at_rest: bool) -> None:
    samples = np.array(values, dtype=np.int32)
    codec, packed = packing.pack(samples, at_rest=at_rest)
    assert len(packed) <= 4 * len(values)
    found = packing.unpack(codec, packed, len(values))
    assert found.dtype == np.int32 and np.array_equal(found, samples)
    assert packing.pack(samples.astype("<i4").tobytes(), at_rest=at_rest) == (codec, packed)


def test_rows_at_rest_are_shorter() -> None:
    rng = np.random.default_rng(7)
    place = np.arange(60_000) % 200
    walk = np.rint(100 * np.exp(-(((place - 100) / 4) ** 2)) + rng.normal(0, 2, 60_000)).astype(np.int32)
    hot, rest = packing.pack(walk), packing.pack(walk, at_rest=True)
    assert hot[0] == rest[0] == packing.DELTA
    assert len(rest[1]) < len(hot[1])
    for codec, packed in (hot, rest):
        assert np.array_equal(packing.unpack(codec, packed, len(walk)), walk)


def test_bytes_of_another_version_are_told() -> None:
    with pytest.raises(ValueError, match=r"codec 9 .* newer version"):
        packing.unpack(9, b"", 0)
    codec, packed = packing.pack(np.arange(10, dtype=np.int32))
    with pytest.raises(ValueError, match="11 samples unpacks to 10"):
        packing.unpack(codec, packed, 11)
