"""Results of the analysis as records of patient.beats and patient.features, and back again after a restart. Pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitalgate.devices import times
from vitalgate.signal import beats as detector
from vitalgate.stream.analysis_core import BeatsResult, Block, beats_digest
from vitalgate.stream.analysis_features import ALGORITHM, ALGORITHM_VERSION, FeatureResult
from vitalgate.stream.analysis_line import Key

Document = dict[str, Any]


def message_id(document: Document) -> str:
    """Content identity: what the record is about and its revision."""
    window = document.get("window", {})
    parts = (
        document["patient"], document["device_id"], document["channel"], document["recording"],
        document.get("name", ""), document["algorithm"], document.get("block", window.get("first_sample")),
        document["revision"],
    )  # fmt: skip
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def _common(key: Key, algorithm: str, version: str) -> Document:
    return {
        "patient": key.patient,
        "device_id": key.device,
        "channel": key.channel,
        "recording": key.recording,
        "algorithm": algorithm,
        "algorithm_version": version,
        "rate": f"{key.rate_num}/{key.rate_den}",
    }


def beats_document(result: BeatsResult) -> Document:
    """A record of patient.beats."""
    return {
        **_common(result.key, detector.NAME, detector.VERSION),
        "block": result.block,
        "first_sample": result.first_sample,
        "stop_sample": result.stop_sample,
        "start": times.text(result.start_us),
        "revision": result.revision,
        "final": True,
        "inputs": {"present": result.present, "runs": [list(run) for run in result.runs]},
        "quality": result.quality or None,
        "believed": result.believed,
        "beats": [
            {"sample": sample, "time": times.text(time), "kind": "N", "rr_ms": rr} for sample, time, rr in result.beats
        ],
    }


def feature_document(result: FeatureResult) -> Document:
    """A record of patient.features."""
    return {
        **_common(result.key, ALGORITHM, ALGORITHM_VERSION),
        "name": result.name,
        "window": {"first_sample": result.first_sample, "stop_sample": result.stop_sample},
        "start": times.text(result.start_us),
        "end": times.text(result.end_us),
        "value": result.value,
        "unit": result.unit,
        "revision": result.revision,
        "withdrawn": result.withdrawn,
    }


def _key(document: Document) -> Key:
    num, _, den = str(document["rate"]).partition("/")
    return Key(
        document["patient"], document["device_id"], document["channel"], document["recording"], int(num), int(den or 1)
    )


def read_beats(document: Document) -> tuple[Key, int, Block, tuple[object, ...]]:
    """(line, block number, block, digest) of a record of patient.beats.

    Raises
    ------
    KeyError, ValueError
        When it was written by something else.
    """
    first, stop = document["first_sample"], document["stop_sample"]
    present: NDArray[np.bool_] = np.zeros(stop - first, np.bool_)
    for low, high in document["inputs"]["runs"]:
        present[low:high] = True
    quality = document["quality"] or ""
    beats = document["beats"]
    block = Block(np.array([beat["sample"] for beat in beats], np.int64), present, quality, document["believed"])
    listed = tuple((beat["sample"], times.parse(beat["time"]).us, beat["rr_ms"]) for beat in beats)
    return _key(document), document["block"], block, beats_digest(document["inputs"]["present"], quality, listed)


def read_feature(document: Document) -> FeatureResult:
    """The feature of a record of patient.features.

    Raises
    ------
    KeyError, ValueError
        When it was written by something else.
    """
    window = document["window"]
    return FeatureResult(
        _key(document), document["name"], window["first_sample"], window["stop_sample"],
        times.parse(document["start"]).us, times.parse(document["end"]).us, document["value"], document["unit"],
        document["withdrawn"], document["revision"],
    )  # fmt: skip
