"""Pauses, episodes and quality are counted as their pages say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from vitalgate.cli.score import command
from vitalgate.scoring.databases import Recording, Rhythm
from vitalgate.scoring.quality import shares
from vitalgate.scoring.rhythm import match_pauses, overlap, reference_pauses
from vitalgate.signal.quality import Grade, Reason, Stretch


def test_pauses_match_one_to_one_by_half() -> None:
    reference = [(0, 700), (1000, 1800), (5000, 5800)]
    assert match_pauses(reference, [(0, 700), (1010, 1790), (5000, 5810)]).tolist() == [3, 0, 0]
    assert match_pauses(reference, [(0, 300), (1000, 1800), (1000, 1800)]).tolist() == [3, 2, 2]
    assert match_pauses([], []).tolist() == [0, 0, 0]


def test_a_gap_in_flutter_is_no_reference_pause() -> None:
    beats = np.array([0, 360, 1440, 1800, 3600, 3960])
    recording = Recording(
        "1", ("MLII",), np.zeros((1, 5000), np.float32), 360.0, beats, np.array(list("NNNNNN")), ((2000, 3500),),
        (Rhythm(0, 5000, "N"),),
    )  # fmt: skip
    assert reference_pauses(recording) == ([(360, 1440)], 1)


def test_episodes_by_any_overlap_and_by_time() -> None:
    row = overlap([(0, 100), (200, 300)], [(50, 150), (400, 500)], [], False)
    assert row.tolist() == [2, 1, 2, 1, 200, 200, 50]
    assert overlap([(0, 100)], [(0, 100)], [(50, 60)], False)[0] == 0
    assert overlap([(0, 100)], [(0, 100)], [(50, 60)], True)[0] == 1


def test_shares_of_grades() -> None:
    graded = [Stretch(0, 1, Grade.GOOD, None)] * 3 + [Stretch(0, 1, Grade.BAD, Reason.FLAT)]
    assert shares(graded) == {"good": 75.0, "usable": 0.0, "bad": 25.0, "stretches": 4, "reasons": "flat 1"}
    assert shares([])["good"] is None


def test_the_command_gives_the_keys(mitdb: Path) -> None:
    result = CliRunner().invoke(command, [str(mitdb), "--json"], catch_exceptions=False)
    document = json.loads(result.output)
    assert {"reference", "missed", "false"} <= set(document["pauses"]) and document["pauses"]["false"] == 0
    assert document["quality"]["clean_called_bad"] == 0.0
    assert document["rhythm"]["labels"]["vf"]["ours"] == 0
