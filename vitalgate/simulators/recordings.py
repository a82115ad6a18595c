"""Recordings in WFDB form (`.hea` with `.dat` in formats 212 and 16, or `.mat`), read with the wfdb package."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Lead names as headers write them, lower case, to ours. A recording that calls
#: its only lead "ECG" is from a hand-held device: between the hands, lead I.
_LEADS = {
    "i": "I", "ii": "II", "iii": "III", "avr": "aVR", "avl": "aVL", "avf": "aVF", "mlii": "MLII",
    "v1": "V1", "v2": "V2", "v3": "V3", "v4": "V4", "v5": "V5", "v6": "V6", "mv1": "V1", "mv2": "V2", "cm5": "V5",
    "ecg": "I", "ecg i": "I", "ecg ii": "II",
}  # fmt: skip

#: Beat codes of MIT annotation files (ECG code definitions of the WFDB library).
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")


class RecordingError(Exception):
    """A recording cannot be read or sent; the text names it and says why."""


@dataclass(frozen=True)
class Channel:
    """One signal of a recording, as it was digitised."""

    name: str
    """Our channel, such as ecg.II."""
    lead: str
    """As the header names it."""
    samples: NDArray[np.int32]
    gain: float
    """Raw units per mV."""
    offset: float
    unit: str

    def physical(self) -> NDArray[np.float64]:
        """In `unit`: (raw - offset) / gain."""
        return (self.samples.astype(np.float64) - self.offset) / self.gain


@dataclass(frozen=True)
class Recording:
    """A recording with all of its signals."""

    name: str
    rate: Fraction
    channels: tuple[Channel, ...]
    path: Path
    """Without suffix, as wfdb wants it."""

    @property
    def count(self) -> int:
        """Samples in each channel."""
        return len(self.channels[0].samples)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.count / self.rate)


@dataclass(frozen=True)
class Reference:
    """The reference annotation of a recording."""

    beats: NDArray[np.int64]
    """Samples of the annotated beats, in order."""
    symbols: tuple[str, ...]
    flutter: tuple[tuple[int, int], ...]
    """[start, stop) samples of ventricular flutter and fibrillation, which EC57 leaves out."""


def channel_name(lead: str, taken: set[str]) -> str:
    """Our channel for a header's lead; unknown and repeated ones get a name of their own."""
    known = _LEADS.get(lead.strip().lower())
    name = f"ecg.{known}" if known else "ecg." + (re.sub(r"[^A-Za-z0-9]+", "", lead) or "unknown")
    number = 2
    first = name
    while name in taken:
        name = f"{first}.{number}"
        number += 1
    return name


def find(directory: Path) -> list[Path]:
    """The recordings of a directory, without suffix, in order. Raises RecordingError when there is none."""
    found = sorted(
        (path.with_suffix("") for path in directory.glob("*.hea")),
        key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)],
    )
    if not found:
        raise RecordingError(f"{directory} has no recordings: there is no .hea file in it")
    return found


def read(path: Path, seconds: float | None = None) -> Recording:
    """Read a recording, or its first `seconds`.

    Raises
    ------
    RecordingError
        When it cannot be read, or its signals have different rates.
    """
    import wfdb

    try:
        header = wfdb.rdheader(str(path))
        rate = Fraction(header.fs).limit_denominator(1000)
        stop = None if seconds is None else min(header.sig_len, int(seconds * rate))
        record = wfdb.rdrecord(str(path), physical=False, sampto=stop)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise RecordingError(f"{path}: not readable as a WFDB recording: {error}") from error
    if record.d_signal is None or not record.n_sig:
        raise RecordingError(f"{path}: there are no signals in it, or they have different rates")
    channels: list[Channel] = []
    taken: set[str] = set()
    for index in range(record.n_sig):
        name = channel_name(record.sig_name[index], taken)
        taken.add(name)
        gain, unit = float(record.adc_gain[index]), str(record.units[index])
        if unit.lower() == "uv":
            gain, unit = gain * 1000, "mV"
        channels.append(
            Channel(
                name, record.sig_name[index], np.ascontiguousarray(record.d_signal[:, index], dtype=np.int32),
                gain, float(record.baseline[index]), unit,
            )
        )  # fmt: skip
    return Recording(path.name, rate, tuple(channels), path)


def reference(path: Path, extension: str = "atr", stop: int | None = None) -> Reference | None:
    """The reference beats up to sample `stop`, or None when the recording has none."""
    if not path.with_suffix(f".{extension}").is_file():
        return None
    import wfdb

    try:
        annotation = wfdb.rdann(str(path), extension, sampto=stop)
    except (OSError, ValueError, IndexError) as error:
        raise RecordingError(f"{path}.{extension}: not readable as annotations: {error}") from error
    samples = np.asarray(annotation.sample, np.int64)
    beat = np.array([symbol in BEAT_SYMBOLS for symbol in annotation.symbol], np.bool_)
    flutter: list[tuple[int, int]] = []
    began: int | None = None
    for sample, symbol in zip(samples, annotation.symbol, strict=True):
        if symbol == "[":
            began = int(sample)
        elif symbol == "]" and began is not None:
            flutter.append((began, int(sample) + 1))
            began = None
    if began is not None:
        flutter.append((began, int(samples[-1]) + 1 if stop is None else stop))
    kinds = tuple(symbol for symbol, is_beat in zip(annotation.symbol, beat, strict=True) if is_beat)
    return Reference(samples[beat], kinds, tuple(flutter))
