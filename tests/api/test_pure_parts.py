"""Limits, chunks, ranges, links, media types, pictures of a line: without any server."""

from __future__ import annotations

import contextlib
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitalgate.api import chunks, encodings, links, media, ranges
from vitalgate.api.downsample import edges_of, min_max
from vitalgate.api.limits import Limiter
from vitalgate.api.problems import Problem
from vitalgate.pki.keyring import new_ring, rotated


def test_a_bucket_empties_and_fills() -> None:
    limiter = Limiter(2.0, 3, most=2)
    assert [limiter.take("a", 0.0).allowed for _ in range(4)] == [True, True, True, False]
    assert limiter.take("a", 0.0).retry_after_s == 1
    assert limiter.take("a", 0.5).allowed
    assert limiter.take("b", 0.5).remaining == 2
    limiter.take("c", 0.5)
    assert limiter.take("a", 0.6).remaining == 2  # forgotten, and so full again


@given(st.binary(max_size=3 * chunks.PLAIN), st.data())
def test_any_range_of_a_file_is_read_from_its_chunks_alone(content: bytes, data: st.DataObject) -> None:
    sealer = chunks.Sealer(bytes(32), "f")
    count = chunks.chunk_count(len(content))
    parts = [content[i * chunks.PLAIN : (i + 1) * chunks.PLAIN] for i in range(count)]
    stored = b"".join(sealer.seal(i, part, i == count - 1) for i, part in enumerate(parts))
    assert len(stored) == chunks.stored_size(len(content))
    first = data.draw(st.integers(0, max(0, len(content) - 1)))
    stop = data.draw(st.integers(min(first + 1, len(content)), len(content)))
    span = chunks.span(len(content), first, stop)
    read = b"".join(sealer.open(span.first_chunk, stored[span.start : span.stop], count))
    assert read[span.skip : span.skip + span.length] == content[first:stop]


def test_a_file_that_was_changed_cut_or_swapped_is_refused() -> None:
    content = bytes(range(256)) * 600
    sealer = chunks.Sealer(bytes(32), "f")
    count = chunks.chunk_count(len(content))
    assert count == 3
    parts = [sealer.seal(i, content[i * chunks.PLAIN : (i + 1) * chunks.PLAIN], i == count - 1) for i in range(count)]
    flipped = bytearray(parts[1])
    flipped[100] ^= 1
    for bad in (
        [parts[0], bytes(flipped), parts[2]], [parts[1], parts[0], parts[2]], [*parts[:2], b"x" * 16],
    ):  # fmt: skip
        with pytest.raises(chunks.BrokenFile):
            list(sealer.open(0, b"".join(bad), count))
    with pytest.raises(chunks.BrokenFile):  # the first two as if they were all
        list(sealer.open(0, b"".join(parts[:2]), 2))
    with pytest.raises(chunks.BrokenFile):
        list(chunks.Sealer(bytes(32), "g").open(0, parts[0], count))


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, None), ("bytes=0-9", (0, 10)), ("bytes=90-", (90, 100)), ("bytes=-10", (90, 100)),
        ("bytes=50-500", (50, 100)), ("lines=1-2", None), ("bytes=5-2", None), ("bytes=0-1,5-6", None),
    ],
)  # fmt: skip
def test_ranges(header: str | None, found: tuple[int, int] | None) -> None:
    assert ranges.parse(header, 100) == found


def test_a_range_beyond_the_file_is_416() -> None:
    with pytest.raises(Problem) as error:
        ranges.parse("bytes=100-", 100)
    assert error.value.status == 416 and error.value.headers["Content-Range"] == "bytes */100"


def test_a_link_is_for_one_user_and_ends_and_outlives_a_rotation() -> None:
    ring = new_ring(date(2026, 1, 1))
    signature = links.sign(ring, "f", "u", 1000)
    links.check(rotated(ring, date(2026, 2, 1), ("seal", "index")), "f", "u", 1000, signature, 999.0)
    for wrong in (("g", "u", 1000), ("f", "v", 1000), ("f", "u", 1001)):
        with pytest.raises(Problem, match="not one of ours"):
            links.check(ring, *wrong, signature, 999.0)
    with pytest.raises(Problem, match="over"):
        links.check(ring, "f", "u", 1000, signature, 1000.0)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"%PDF-1.7\n", "application/pdf"), (b"\x89PNG\r\n\x1a\n" + bytes(8), "image/png"),
        (bytes(128) + b"DICM", "application/dicom"), (b"100 2 360 650000\n100.dat 212 200", "application/x-wfdb"),
        (b"time,spo2\n1,97\n", "text/csv"), ("Grüße".encode(), "text/plain"),
    ],
)  # fmt: skip
def test_a_type_is_told_from_the_bytes(content: bytes, kind: str) -> None:
    assert media.sniff(content) == kind


@pytest.mark.parametrize(
    "content",
    [b"<html><script>", b"  <svg xmlns='http://www.w3.org/2000/svg'>", b"\x7fELF", b"MZ\x00\x00", b"\x00\x01"],
)
def test_what_would_run_is_not_taken(content: bytes) -> None:
    with pytest.raises(Problem) as error:
        media.sniff(content)
    assert error.value.status == 415


@given(st.binary(max_size=400))
def test_no_bytes_break_the_sniffer(content: bytes) -> None:
    with contextlib.suppress(Problem):
        assert media.sniff(content) in media.ALLOWED


@given(st.text())
def test_a_file_name_has_no_folder(name: str) -> None:
    found = media.file_name(name)
    assert found and "/" not in found and "\\" not in found and len(found) <= 120 and found.isprintable()


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), max_size=200), st.integers(1, 50))
def test_least_and_greatest_of_each_pixel(values: list[float], pixels: int) -> None:
    line = np.array(values, dtype=np.float64)
    edges = edges_of(len(line), pixels)
    found = min_max(line, edges)
    for pixel in range(pixels):
        part = line[edges[pixel] : edges[pixel + 1]]
        part = part[~np.isnan(part)]
        assert found.count[pixel] == len(part)
        if len(part):
            assert (found.low[pixel], found.high[pixel]) == (part.min(), part.max())
        else:
            assert np.isnan(found.low[pixel]) and np.isnan(found.high[pixel])


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, encodings.JSON), ("*/*", encodings.JSON), ("application/cbor", encodings.CBOR),
        ("application/json;q=0.5, application/vnd.apache.arrow.stream", encodings.ARROW),
        ("text/html, */*;q=0.1", encodings.JSON),
    ],
)  # fmt: skip
def test_the_answer_is_in_a_form_that_is_accepted(accept: str | None, kind: str) -> None:
    assert encodings.choose(accept) == kind


def test_no_acceptable_form_is_406() -> None:
    with pytest.raises(Problem) as error:
        encodings.choose("text/html")
    assert error.value.status == 406
