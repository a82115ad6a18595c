"""Atrial activity in windows of beats: the same P wave before each QRS complex, none, or waves of their own.

The stretches before the QRS complexes are laid over one another. A P wave is the same in each, so the mean keeps it;
fibrillation's waves differ and cancel, and what is left of each stretch round the mean is large beside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.forms import P_WAVE, QRS, RATE, SHAPE, T_WAVE, Floats, Forms
from vitalgate.signal.grid import Bool, Index

#: Of the lead in which the stretches are most alike.
NAMES = ("p_together", "p_height", "p_rest", "p_place", "p_like", "t_together", "regular_beats")
_FEWEST = 5


def atrial_features(forms: Forms, regular: Bool, within: Index) -> Floats:
    """What shows before the QRS complexes of each window.

    Parameters
    ----------
    forms
        (n, POINTS), or (n_leads, n, POINTS), of ``cut_forms``.
    regular
        (n,) beats that count: not the ventricular ones.
    within
        (n_windows, m): which beats each window has.

    Returns
    -------
    (n_windows, 7) in the order of NAMES: share of the stretches' own variation that their mean explains; the mean's
    height over a line through its ends, and the rest's root mean square, both of the QRS complex's size; where that
    height is, seconds into the stretch; median likeness of a stretch to the mean; as the first, of T waves; share of
    beats that counted. 0 where fewer than five beats count.
    """
    leads = forms[np.newaxis] if forms.ndim == 2 else forms
    counted = regular[within]
    if not len(within):
        return np.empty((0, len(NAMES)))
    found = np.stack([_of_lead(lead[:, :SHAPE].astype(np.float32), counted, within) for lead in leads])
    best = found[:, :, 0].argmax(axis=0)
    return np.asarray(found[best, np.arange(len(within))])


def _of_lead(shapes: NDArray[np.float32], counted: Bool, within: Index) -> Floats:
    many = np.maximum(counted.sum(axis=1), 1)
    size = np.sort(np.where(counted, np.ptp(shapes[:, QRS], axis=1)[within], np.inf), axis=1)
    scale = np.maximum(size[np.arange(len(within)), (many - 1) // 2], 1.0)
    p = _level(shapes[:, P_WAVE])[within]
    mean, together, rest = _laid_over(p, counted, many)
    line = 0.5 * (mean[:, :3].mean(axis=1) + mean[:, -3:].mean(axis=1))
    rise = mean - line[:, np.newaxis]
    power = np.sqrt((p * p).sum(axis=2) * (mean * mean).sum(axis=1)[:, np.newaxis]) + 1
    like = np.sort(np.where(counted, (p * mean[:, np.newaxis]).sum(axis=2) / power, np.inf), axis=1)
    _, t_together, _ = _laid_over(_level(shapes[:, T_WAVE])[within], counted, many)
    table = np.stack(
        [together, rise.max(axis=1) / scale, rest / scale, rise.argmax(axis=1) / RATE,
         like[np.arange(len(within)), (many - 1) // 2], t_together, counted.mean(axis=1)],
        axis=1,
    )  # fmt: skip
    table[counted.sum(axis=1) < _FEWEST, :-1] = 0
    return np.asarray(table, np.float64)


def _level(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Freed of level and slope."""
    at = np.arange(part.shape[1], dtype=np.float32)
    at -= at.mean()
    part = part - part.mean(axis=1, keepdims=True)
    slope = (part * at).sum(axis=1, keepdims=True) / (at * at).sum()
    return np.asarray(part - slope * at)


def _laid_over(
    part: NDArray[np.float32], counted: Bool, many: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Mean of the parts that count, the share it explains, and the root mean square of the rest."""
    kept = np.where(counted[:, :, np.newaxis], part, np.float32(0))
    mean = kept.sum(axis=1) / many[:, np.newaxis].astype(np.float32)
    own = (kept * kept).sum(axis=(1, 2)) / many
    shared = (mean * mean).sum(axis=1)
    rest = np.sqrt(np.maximum(own - shared, 0) / part.shape[2])
    return mean, np.asarray(shared / (own + 1), np.float32), np.asarray(rest, np.float32)
