"""Waveforms out of uploaded files: DICOM-ECG and WFDB records in a ZIP. Nothing of a file is trusted."""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from vitalgate.api.problems import Problem

#: Bounds on what a file may unfold to.
MOST_FILES = 20
MOST_BYTES = 200 * 1024 * 1024
MOST_SAMPLES = 60_000_000
MOST_CHANNELS = 64
_WFDB_SUFFIXES = (".hea", ".dat", ".mat", ".atr", ".d16")


@dataclass(frozen=True)
class Channel:
    """One lead of a file."""

    name: str
    rate: float
    """Hz."""
    unit: str
    samples: npt.NDArray[np.float64]
    """Physical values; NaN where none is."""


def carries_waveforms(media_type: str) -> bool:
    """Whether a file of this type can carry waveforms."""
    return media_type in ("application/dicom", "application/zip")


def read(media_type: str, content: bytes) -> list[Channel]:
    """The channels of a file.

    Raises
    ------
    Problem
        422 when it carries none, is broken, or unfolds to more than the bounds.
    """
    try:
        if media_type == "application/dicom":
            return _dicom(content)
        if media_type == "application/zip":
            return _wfdb(content)
    except Problem:
        raise
    except Exception as error:  # the libraries raise whatever broken input makes them stumble over
        raise _no(f"the file cannot be read: {type(error).__name__}") from error
    raise _no(f"a file of type {media_type} carries no waveforms; DICOM-ECG and a ZIP of a WFDB record do")


def _dicom(content: bytes) -> list[Channel]:
    from pydicom import dcmread
    from pydicom.waveforms.numpy_handler import multiplex_array

    dataset = dcmread(io.BytesIO(content))
    groups = dataset.get("WaveformSequence")
    if not groups:
        raise _no("the DICOM object has no waveform sequence")
    found = []
    for index, group in enumerate(groups):
        count, samples = int(group.NumberOfWaveformChannels), int(group.NumberOfWaveformSamples)
        _bounds(count, samples)
        values = np.asarray(multiplex_array(dataset, index, as_raw=False), dtype=np.float64)
        rate = float(group.SamplingFrequency)
        for number, channel in enumerate(group.ChannelDefinitionSequence):
            source = channel.get("ChannelSourceSequence")
            name = str(source[0].get("CodeMeaning", "")) if source else ""
            units = channel.get("ChannelSensitivityUnitsSequence")
            unit = str(units[0].get("CodeValue", "")) if units else ""
            found.append(Channel(name or f"channel {number + 1}", rate, unit, np.ascontiguousarray(values[:, number])))
    return found


def _wfdb(content: bytes) -> list[Channel]:
    import wfdb

    with zipfile.ZipFile(io.BytesIO(content)) as archive, tempfile.TemporaryDirectory(prefix="vitalgate-") as folder:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        if len(infos) > MOST_FILES:
            raise _no(f"the ZIP holds {len(infos)} files; {MOST_FILES} are allowed")
        left = MOST_BYTES
        headers = []
        for info in infos:
            name = PurePosixPath(info.filename).name  # no folders: nothing is written elsewhere
            if not name.lower().endswith(_WFDB_SUFFIXES):
                continue
            with archive.open(info) as packed:
                data = packed.read(left + 1)
            left -= len(data)
            if left < 0:
                raise _no(f"the ZIP unfolds to more than {MOST_BYTES} bytes")
            (Path(folder) / name).write_bytes(data)
            if name.endswith(".hea"):
                headers.append(name)
        if len(headers) != 1:
            raise _no(f"the ZIP holds {len(headers)} WFDB headers (.hea); it must be one record")
        path = str(Path(folder) / headers[0].removesuffix(".hea"))
        head = wfdb.rdheader(path)
        for name in head.file_name or []:
            if PurePosixPath(name).name != name:
                raise _no("the WFDB header names a file in another folder")
        _bounds(int(head.n_sig), int(head.sig_len or 0))
        record = wfdb.rdrecord(path, physical=True, smooth_frames=True)
        return [
            Channel(
                str(name),
                float(record.fs),
                str(unit),
                np.ascontiguousarray(record.p_signal[:, index], dtype=np.float64),
            )
            for index, (name, unit) in enumerate(zip(record.sig_name, record.units, strict=True))
        ]


def _bounds(channels: int, samples: int) -> None:
    if not 1 <= channels <= MOST_CHANNELS or not 1 <= samples <= MOST_SAMPLES // channels:
        raise _no(f"the file has {channels} channels of {samples} samples, which is outside the bounds")


def _no(why: str) -> Problem:
    return Problem(422, "no-waveforms", f"{why[0].upper()}{why[1:]}.")
