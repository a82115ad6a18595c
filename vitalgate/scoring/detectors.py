"""Beat detectors by name: ours and those of other packages that are installed, for comparison on the same records."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.signal.beats import find_beats
from vitalgate.signal.stream import BeatStream

Detector = Callable[[NDArray[np.float32], float], NDArray[np.int64]]

OURS = "vitalgate"
_NEUROKIT = (
    "neurokit", "pantompkins1985", "hamilton2002", "christov2004", "elgendi2010", "kalidas2017", "rodrigues2021",
    "nabian2018", "promac",
)  # fmt: skip


class UnknownDetector(Exception):
    """No detector of that name is installed."""


def names() -> list[str]:
    """Every detector that is installed: ``vitalgate``, ``neurokit2:METHOD``, ``wfdb:xqrs``, ``wfdb:gqrs``..."""
    found = [OURS]
    if importlib.util.find_spec("neurokit2"):
        found += [f"neurokit2:{method}" for method in _NEUROKIT]
    if importlib.util.find_spec("wfdb"):
        found += ["wfdb:xqrs", "wfdb:gqrs"]
    if importlib.util.find_spec("sleepecg"):
        found += ["sleepecg"]
    return found


def detector(name: str, stream: int | None = None) -> Detector:
    """The detector of that name.

    Parameters
    ----------
    stream
        Ours only: give it the signal in packets of so many samples.

    Raises
    ------
    UnknownDetector
        If it is not known or not installed, or cannot be streamed.
    """
    if stream is not None and name != OURS:
        raise UnknownDetector(f"{name} has no streaming form; leave --stream out, or score {OURS}")
    if name not in names():
        raise UnknownDetector(f"no detector {name!r} is installed; there are: {', '.join(names())}")
    if name == OURS:
        return _ours if stream is None else partial(_ours_streamed, packet=stream)
    package, _, method = name.partition(":")
    return {"neurokit2": partial(_neurokit, method=method), "wfdb": partial(_wfdb, method=method)}.get(
        package, _sleepecg
    )


def _ours(signal: NDArray[np.float32], fs: float) -> NDArray[np.int64]:
    return find_beats(signal, fs)[0]


def _ours_streamed(signal: NDArray[np.float32], fs: float, packet: int) -> NDArray[np.int64]:
    stream = BeatStream(fs)
    parts = [stream.push(signal[begin : begin + packet])[0] for begin in range(0, len(signal), packet)]
    return np.concatenate([*parts, stream.finish()[0]])


def _neurokit(signal: NDArray[np.float32], fs: float, method: str) -> NDArray[np.int64]:
    import neurokit2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleaner = method if method not in ("kalidas2017", "rodrigues2021", "promac") else "neurokit"
        clean = neurokit2.ecg_clean(signal.astype(np.float64), sampling_rate=int(fs), method=cleaner)
        _, info = neurokit2.ecg_peaks(clean, sampling_rate=int(fs), method=method)
    return _sorted(info["ECG_R_Peaks"])


def _wfdb(signal: NDArray[np.float32], fs: float, method: str) -> NDArray[np.int64]:
    from wfdb import processing

    x = signal.astype(np.float64)
    if method == "gqrs":
        return _sorted(processing.gqrs_detect(sig=x, fs=fs))
    return _sorted(processing.xqrs_detect(sig=x, fs=fs, verbose=False))


def _sleepecg(signal: NDArray[np.float32], fs: float) -> NDArray[np.int64]:
    sleepecg = importlib.import_module("sleepecg")
    return _sorted(sleepecg.detect_heartbeats(signal.astype(np.float64), fs))


def _sorted(peaks: Any) -> NDArray[np.int64]:
    found = np.asarray(peaks, np.float64).ravel()
    return np.unique(found[np.isfinite(found)].astype(np.int64))
