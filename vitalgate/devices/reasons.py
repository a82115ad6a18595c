"""Why something was refused: the reason codes, a sentence and a remedy for each, and whether a device can cause it."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Reason code of a dead letter and of the `rejected` list of a receipt."""

    UNDECODABLE = "undecodable"
    OVERSIZE = "oversize"
    WRONG_TOPIC = "wrong_topic"
    UNKNOWN_DEVICE = "unknown_device"
    REVOKED = "revoked"
    SCHEMA = "schema"
    TOO_MANY = "too_many"
    UNKNOWN_METRIC = "unknown_metric"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_UNIT = "unknown_unit"
    UNKNOWN_CODE = "unknown_code"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    INCONSISTENT = "inconsistent"
    TIME_UNEXPLAINED = "time_unexplained"
    WAVEFORM_SHAPE = "waveform_shape"
    BAD_CORRECTION = "bad_correction"
    SEQUENCE_REUSED = "sequence_reused"
    INTERNAL_ERROR = "internal_error"
    STORAGE_REFUSED = "storage_refused"

    @property
    def sentence(self) -> str:
        """One sentence that says what the code means."""
        return _TEXT[self][0]

    @property
    def remedy(self) -> str:
        """What the device maker or the operator does about it."""
        return _TEXT[self][1]

    @property
    def by_device(self) -> bool:
        """True when an authenticated device in good standing can cause it by what it sends."""
        return self not in (
            Reason.UNKNOWN_DEVICE,
            Reason.REVOKED,
            Reason.INTERNAL_ERROR,
            Reason.STORAGE_REFUSED,
        )


_TEXT: dict[Reason, tuple[str, str]] = {
    Reason.UNDECODABLE: (
        "The bytes are neither a JSON object nor a CBOR map that we can read.",
        "Send one JSON object (UTF-8) or one CBOR map, complete, without a repeated key.",
    ),
    Reason.OVERSIZE: (
        "The message is larger than the deployment accepts; only its beginning is kept.",
        "Split it into several messages below the limit.",
    ),
    Reason.WRONG_TOPIC: (
        "The content does not belong on the topic it was published to.",
        "Publish readings, waveforms and status each to the device's own topic of that name.",
    ),
    Reason.UNKNOWN_DEVICE: (
        "No device of this id is registered.",
        "Register it with `vitalgate device add`, then replay the dead letter.",
    ),
    Reason.REVOKED: (
        "The device was revoked before this message arrived.",
        "Register the device anew if it should send again.",
    ),
    Reason.SCHEMA: (
        "A required key is missing, a key is unknown, or a value has the wrong type.",
        "Compare the message with docs/mqtt.md, or run `vitalgate device check`.",
    ),
    Reason.TOO_MANY: (
        "The message holds more readings, samples or numbers than one message may.",
        "Split it into several messages.",
    ),
    Reason.UNKNOWN_METRIC: (
        "The device's kind has no metric of this name.",
        "Send a metric that `vitalgate device kinds` lists for the kind, or register the device as another kind.",
    ),
    Reason.UNKNOWN_CHANNEL: (
        "The device's kind has no waveform channel of this name.",
        "Send a channel that `vitalgate device kinds` lists for the kind.",
    ),
    Reason.UNKNOWN_UNIT: (
        "The unit is missing or is not one of those accepted for the metric or channel.",
        "Send a UCUM unit that `vitalgate device kinds` lists for the metric.",
    ),
    Reason.UNKNOWN_CODE: (
        "The coded value, site or context is not one of those the metric knows.",
        "Send one of the codes that `vitalgate device kinds` lists for the metric.",
    ),
    Reason.NOT_A_NUMBER: (
        "The value is not a finite number.",
        "Send a JSON or CBOR number; for a missing value leave `value` out and say why in `absent`.",
    ),
    Reason.OUT_OF_RANGE: (
        "The value is outside what is physically plausible for the metric.",
        "Check the unit and the sensor; send `absent` when the sensor has no value.",
    ),
    Reason.INCONSISTENT: (
        "Values of one measurement contradict each other (a diastolic pressure above the systolic).",
        "Check that the values are not exchanged; take the measurement again.",
    ),
    Reason.TIME_UNEXPLAINED: (
        "The time is too old or lies in the future, also after the clock skew we saw was taken off.",
        "Set the device's clock, and send `sent_at` so that its skew can be seen.",
    ),
    Reason.WAVEFORM_SHAPE: (
        "The samples are not what the block says: type, count, rate, gain or packing.",
        "Send integer samples with a positive rate and gain; compare the block with docs/mqtt.md.",
    ),
    Reason.BAD_CORRECTION: (
        "`corrects` does not name an earlier item or measurement.",
        'Send {"epoch", "seq", "index"} of the item, or {"time"} of the measurement.',
    ),
    Reason.SEQUENCE_REUSED: (
        "The number was used before with other content; the first content stands.",
        "Count up by one for every message and start a new epoch whenever the counter starts over.",
    ),
    Reason.INTERNAL_ERROR: (
        "Our own software failed on the message; its bytes are kept and nothing else is held up.",
        "Nothing on the device's side: report it, and replay the dead letter after the fix.",
    ),
    Reason.STORAGE_REFUSED: (
        "The database refused what validation had let through; its bytes are kept and nothing else is held up.",
        "Nothing on the device's side: report it, and replay the dead letter after the fix.",
    ),
}


class Refused(Exception):
    """Something is refused: `reason` is the code, the text says what was wrong with value, limit and remedy."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def show(value: object) -> str:
    """A value as it may stand in a `detail`: short, printable, and never deep."""
    if isinstance(value, str):
        return ascii(value if len(value) <= 40 else value[:37] + "...")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)[:40]
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a byte string" if isinstance(value, bytes) else f"a {type(value).__name__}"
