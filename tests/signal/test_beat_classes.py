"""Forms, the company that beats keep, and their classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vitalgate.signal import classes, company
from vitalgate.signal.beats import find_beats
from vitalgate.signal.classes import NAMES, classify_beats, classify_forms, features
from vitalgate.signal.forms import CUT_AFTER_S, CUT_BEFORE_S, POINTS, SHAPE, cut_forms

Make = Callable[..., tuple[np.ndarray, np.ndarray]]

NORMAL = ((-0.16, 0.12, 0.02), (0, 1, 0.011), (0.26, 0.3, 0.05))
WIDE = ((0, 1.9, 0.045), (0.28, -0.6, 0.06))


def rhythm(rr: np.ndarray, odd: np.ndarray, fs: float = 250.0, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Normal beats, and wide ones where ``odd``: (mV, R positions)."""
    at = 1 + np.cumsum(rr)
    t = np.arange(int((at[-1] + 1) * fs)) / fs
    x = noise * np.random.default_rng(0).standard_normal(len(t))
    for beat, v in zip(at, odd, strict=True):
        low, high = np.searchsorted(t, [beat - 0.6, beat + 0.8])
        for delay, height, width in WIDE if v else NORMAL:
            x[low:high] += height * np.exp(-0.5 * ((t[low:high] - beat - delay) / width) ** 2)
    return x, np.round(at * fs).astype(int)


def ectopy(count: int = 180, every: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Intervals with an early beat and its pause now and then, and which beats are early."""
    rr, odd = np.full(count, 0.82), np.zeros(count, bool)
    odd[every - 2 :: every] = True
    odd[-1] = False
    rr[odd] = 0.5
    rr[np.flatnonzero(odd) + 1] = 1.14
    return rr, odd


def test_what_is_said_of_a_beat_depends_on_a_bounded_stretch() -> None:
    fs = 250.0
    rr, odd = ectopy(420)
    ecg, _ = rhythm(rr, odd, fs, 0.03)
    beats = find_beats(ecg, fs)[0]
    forms = cut_forms(ecg, fs, beats)
    whole = features(forms, beats, fs)
    both = np.stack([ecg, -ecg])
    shares = classify_beats(both, fs, beats).shares
    for block in (0, 14, 20):
        start, stop = int(10 * block * fs), int(10 * (block + 1) * fs)
        # Of the beats and forms within the block's own reach ...
        near = (beats >= start - company.BEFORE_S * fs) & (beats < stop + company.AFTER_S * fs)
        wanted, chosen = (beats[near] >= start) & (beats[near] < stop), (beats >= start) & (beats < stop)
        assert np.array_equal(features(forms[near], beats[near], fs)[wanted], whole[chosen])
        # ... and of the signal within that of any beat of it.
        low, high = max(0, start - int((company.BEFORE_S + CUT_BEFORE_S + 1) * fs)), stop + int((6 + CUT_AFTER_S) * fs)
        part = classify_beats(both[:, low:high], fs, beats[near], low).shares[wanted]
        assert np.array_equal(part, shares[chosen])
    assert classes.BEFORE_S >= classes.CONTEXT_S and classes.AFTER_S >= classes.AHEAD_S


def test_wanted_beats_are_judged_as_among_all() -> None:
    fs = 250.0
    ecg, _ = rhythm(*ectopy(120), fs, 0.03)
    beats = find_beats(ecg, fs)[0]
    forms = np.stack([cut_forms(lead, fs, beats) for lead in (ecg, -ecg)])
    whole = classify_forms(forms, beats, fs)
    for wanted in ([3], [0, 1, 50, 90], slice(17, 40), []):
        rows = np.arange(len(beats))[wanted]
        part = classify_forms(forms, beats, fs, np.array(wanted, int) if isinstance(wanted, list) else wanted)
        assert np.array_equal(part.shares, whole.shares[rows]) and np.array_equal(part.kinds, whole.kinds[rows])


def test_beats_of_one_form_share_their_odds() -> None:
    rng = np.random.default_rng(4)
    one, two = np.zeros((2, POINTS), np.int16)
    one[30:60], two[30:60] = 1000 * np.sin(np.arange(30) / 3), 900 * np.cos(np.arange(30) / 5)
    forms = np.stack([one, two, one, one, two, one])[np.newaxis]
    shares = rng.dirichlet(np.ones(4), 6)
    out = np.exp(classes.with_one_form(np.log(shares), forms, np.array([4, 4, 4, 4, 4, 5])))
    assert np.allclose(out.sum(axis=1), 1)
    odds, shown = (np.log(table[:, 3] / (1 - table[:, 3])) for table in (shares, out))
    for group in ([0, 2, 3], [1, 4], [5]):
        # Half its own, half that of the same form in the same block; alone it stays as it was.
        assert np.allclose(shown[group], 0.5 * (odds[group] + odds[group].mean()), atol=1e-3)
    # What is not V is divided as before.
    assert np.allclose(
        out[:, :3] / out[:, :3].sum(axis=1, keepdims=True), shares[:, :3] / shares[:, :3].sum(axis=1, keepdims=True)
    )


def test_forms_of_a_stretch_are_those_of_the_whole(make_ecg: Make) -> None:
    ecg, _ = make_ecg(40, 360.0, 80, 3, 0.05)
    beats = find_beats(ecg, 360.0)[0]
    whole = cut_forms(ecg, 360.0, beats)
    for k in range(1, len(beats) - 1):
        low, high = beats[k] - int(CUT_BEFORE_S * 360), beats[k] + int(CUT_AFTER_S * 360)
        assert np.array_equal(cut_forms(ecg[low:high], 360.0, beats[k : k + 1], low)[0], whole[k])


@pytest.mark.parametrize("change", ["gain", "offset", "sign", "later", "rate"])
def test_classes_do_not_mind_gain_offset_polarity_time_and_rate(change: str) -> None:
    fs = 250.0
    rr, odd = ectopy()
    ecg, at = rhythm(rr, odd, fs)
    table = features(cut_forms(ecg, fs, at), at, fs)
    kinds = classify_beats(ecg, fs, at).kinds
    shift = 0
    match change:
        case "gain":
            other = 2.5 * ecg
        case "offset":
            other = ecg + 1.7
        case "sign":
            other = -ecg
        case "later":
            # Whole blocks and whole bins: everything is the same, bit for bit.
            shift = int(5 * company.BLOCK_S * fs)
            other = ecg
        case _:
            fs, (other, at) = 500.0, rhythm(rr, odd, 500.0)
    changed = features(cut_forms(other, fs, at + shift, shift), at + shift, fs)
    if change == "later":
        assert np.array_equal(changed, table)
    elif change != "rate":
        near = np.isclose(changed, table, rtol=0.03, atol=0.03)
        # The P wave's height is measured upwards, and the sign of the QRS complex counts in height, depth and skew.
        turned = {"height", "depth", "skew", "p", "p_less", "t_mean", "group_p"} if change == "sign" else set()
        kept = [k for k, name in enumerate(NAMES) if name not in turned]
        assert near[:, kept].mean() > 0.98
    assert (classify_beats(other, fs, at + shift, shift).kinds == kinds).mean() > 0.98
    assert (kinds[odd] == "V").all() and (kinds[~odd] != "V").all()


def test_a_run_of_wide_beats_does_not_become_the_norm() -> None:
    rr, odd = np.full(200, 0.8), np.zeros(200, bool)
    odd[100:160], rr[100:160] = True, 0.45
    ecg, at = rhythm(rr, odd)
    assert (classify_beats(ecg, 250.0, at).kinds[odd] == "V").mean() > 0.9


def test_nothing_to_see_is_no_fault() -> None:
    assert cut_forms(np.empty(0), 250.0, [5]).shape == (1, POINTS)
    assert classify_beats(np.zeros(1000), 250.0, []).kinds.shape == (0,)
    for x in (np.zeros(5000), np.full(5000, np.nan), np.full(5000, np.inf)):
        assert classify_beats(x, 250.0, np.arange(100, 5000, 200)).shares.shape == (25, 4)
    assert not cut_forms(np.zeros(2000), 250.0, [1000])[:, :SHAPE].any()
    with pytest.raises(ValueError, match="cut them from the same beats"):
        classify_forms(np.zeros((3, POINTS), np.int16), [1, 2], 250.0)
