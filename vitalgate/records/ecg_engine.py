"""An ECG report by the signal engine (`vitalgate report ecg --json`) as the fields of an ECGReport. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from vitalgate.records.errors import Invalid

#: Measurement of an ECGReport by interval of the engine's report; QTc is Fridericia's.
INTERVALS: Final = {"pr": "pr_ms", "qrs": "qrs_ms", "qt": "qt_ms", "qtc": "qtc.fridericia_ms"}
_TWELVE: Final = 12


def fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """What `create` of an ECGReport takes, but for the patient: a value that the engine withheld is left out.

    Raises
    ------
    Invalid
        When the document is no report of the engine.
    """
    if document.get("schema") != "ecg.report" or not isinstance(document.get("measurements"), Mapping):
        raise Invalid("that is no report of the signal engine: its schema is not ecg.report")
    measured = document["measurements"]
    result = {"rate": measured.get("heart_rate_per_min")}
    result |= {name: (measured.get(key) or {}).get("value") for name, key in INTERVALS.items()}
    rhythm = document.get("rhythm") or {}
    return {
        "reportType": "12-lead" if len(document.get("leads", ())) >= _TWELVE else "strip",
        "source": "engine",
        "resultData": {name: value for name, value in result.items() if value is not None},
        "conclusion": "\n".join(part for part in (rhythm.get("statement"), document.get("notice")) if part),
        "recordedAt": document.get("start"),
    }
