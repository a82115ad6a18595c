"""Where the ECG of a report comes from: a WFDB record on disk, or a patient's stored waveforms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from vitalgate.config.settings import DatabaseSettings
from vitalgate.report.ecg import Ecg, NothingToReport
from vitalgate.report.strip import patient_strip

LONGEST_S = 300.0
_MV = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "v": 1e3}


def record_path(name: str) -> Path | None:
    """The WFDB record that a name stands for, without its ending; None when there is no such file."""
    path = Path(name)
    for candidate in (path, path.with_suffix("")):
        if candidate.name and candidate.with_name(candidate.name + ".hea").is_file():
            return candidate
    return None


def from_record(
    path: Path, skip_s: float = 0.0, seconds: float | None = None, leads: tuple[str, ...] = (),
    at: datetime | None = None,
) -> Ecg:  # fmt: skip
    """Read a WFDB record.

    Parameters
    ----------
    path
        Without its ending.
    skip_s, at
        Where to begin: so many s after the first sample, or at a time, if the record says when it began.
    seconds
        How long; to the end, but five minutes at most, without it.
    leads
        Signals to take; by default all that are a voltage.

    Raises
    ------
    NothingToReport
        If the record cannot be read, or has nothing of that kind or there.
    """
    import wfdb

    try:
        header = wfdb.rdheader(str(path))
        start = header.base_datetime.replace(tzinfo=UTC) if header.base_datetime else None
        rate = float(header.fs)
        if at is not None:
            if start is None:
                raise NothingToReport(f"{path} does not say when it was recorded; say how many seconds to skip instead")
            skip_s = (at - start).total_seconds()
        first = round(skip_s * rate)
        length = LONGEST_S if seconds is None else seconds
        stop = min(int(header.sig_len or 0), first + round(length * rate))
        if not 0 <= first < stop:
            raise NothingToReport(f"{path} has {(header.sig_len or 0) / rate:.1f} s; {skip_s:g} s is not in it")
        record = wfdb.rdrecord(str(path), sampfrom=first, sampto=stop)
    except (OSError, ValueError, IndexError, KeyError, AttributeError) as error:
        if isinstance(error, NothingToReport):
            raise
        raise NothingToReport(f"{path} cannot be read as a WFDB record: {error}") from error
    wanted = {lead.lower().removeprefix("ecg.") for lead in leads}
    chosen = [
        k for k, (name, unit) in enumerate(zip(record.sig_name, record.units, strict=True))
        if unit.lower() in _MV and (name.lower().removeprefix("ecg.") in wanted if wanted else _is_ecg(name))
    ]  # fmt: skip
    if not chosen:
        raise NothingToReport(f"{path} has no such ECG lead; its signals are {', '.join(record.sig_name)}")
    scale = np.array([_MV[record.units[k].lower()] for k in chosen])
    samples = np.ascontiguousarray((record.p_signal[:, chosen] * scale).T, np.float64)
    begin = None if start is None else start + timedelta(seconds=first / rate)
    identifiers = {"record": path.name} | ({} if skip_s == 0 else {"from": f"{skip_s:g} s of the record"})
    return Ecg([record.sig_name[k] for k in chosen], samples, rate, begin, identifiers)


def _is_ecg(name: str) -> bool:
    return "." not in name or name.startswith("ecg.")


def from_patient(
    database: DatabaseSettings, patient: str, at: datetime | None, seconds: float, channels: tuple[str, ...] = ()
) -> Ecg:
    """Read what the database has of a patient, at a time or the latest; all leads of one device, unless some are named.

    Raises
    ------
    NothingToDraw
        When there is no ECG then.
    vitalgate.storage.errors.StorageError
        When the database cannot be read.
    """
    strip = patient_strip(
        database, patient, at, seconds, channels=channels, choice="none", every_lead=not channels
    )  # fmt: skip
    rate = max(lead.rate for lead in strip.leads)
    same = [lead for lead in strip.leads if lead.rate == rate]
    samples = np.stack([np.asarray(lead.samples, np.float64) for lead in same])
    device = strip.notes[0].partition("  ·  ")[0] if strip.notes else ""
    identifiers = {"patient": patient} | ({"device": device} if device else {})
    return Ecg([lead.label for lead in same], samples, rate, strip.start, identifiers)
