"""Results of the analysis as records of patient.beats and patient.features, and back again after a restart. Pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

from vitalgate.devices import times
from vitalgate.signal import beats as detector
from vitalgate.signal import classes
from vitalgate.signal.ventricular import Fibrillating
from vitalgate.stream.analysis_beats import BeatsResult, digest_of
from vitalgate.stream.analysis_block import Block
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
    block = result.block
    return {
        **_common(result.key, detector.NAME, detector.VERSION),
        "block": result.number,
        "first_sample": result.first_sample,
        "stop_sample": result.stop_sample,
        "start": times.text(result.start_us),
        "revision": result.revision,
        "final": True,
        "inputs": {"present": block.present, "runs": [list(run) for run in block.runs]},
        "quality": block.quality or None,
        "reason": block.reason,
        "believed": block.believed,
        "classifier": f"{classes.NAME} {classes.VERSION}",
        "fibrillation": [[wave.onset, wave.offset, wave.per_min] for wave in block.waves],
        "baseline": block.baseline.tolist(),
        "beats": [
            {"sample": sample, "time": times.text(time), "kind": kind, "rr_ms": rr}
            for sample, time, rr, kind in result.beats
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
        "provisional": result.provisional,
        "reason": result.reason,
    }


def _key(document: Document) -> Key:
    num, _, den = str(document["rate"]).partition("/")
    return Key(
        document["patient"], document["device_id"], document["channel"], document["recording"], int(num), int(den or 1)
    )


def read_beats(document: Document) -> tuple[Key, int, Block, tuple[object, ...], int]:
    """(line, block number, block, digest, time of its first sample) of a record of patient.beats.

    Raises
    ------
    KeyError, ValueError
        When it was written by something else.
    """
    beats = document["beats"]
    block = Block(
        beats=np.array([beat["sample"] for beat in beats], np.int64),
        kinds=np.array([beat["kind"] for beat in beats], "<U1"),
        runs=tuple((low, high) for low, high in document["inputs"]["runs"]),
        quality=document["quality"] or "",
        reason=document["reason"],
        believed=document["believed"],
        waves=tuple(Fibrillating(onset, offset, rate) for onset, offset, rate in document["fibrillation"]),
        baseline=np.array(document["baseline"], np.int16),
        forms=None,
    )
    listed = tuple((beat["sample"], times.parse(beat["time"]).us, beat["rr_ms"], beat["kind"]) for beat in beats)
    start_us = times.parse(document["start"]).us
    return _key(document), document["block"], block, digest_of(block, listed), start_us


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
        document["withdrawn"], document["revision"], document["reason"], document["provisional"],
    )  # fmt: skip
