"""What a clinician's screen says about an alert, turned into a record for the alert engine, or into a refusal. Pure.

Who it is, is what the broker says and never what is written in the message. Two ways:

- on `…/commands/{user}` the broker's access rules let that user publish and nobody else;
- on `…/commands`, which is all the team's, the message names a user (`as`), and the answer on that user's replies
  topic, which only they may read, asks for the same command once more with the `confirm` that it holds.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from vitalgate.gateway.alert_topics import CommandTopic, replies_topic, replies_user

ACTIONS = ("acknowledge", "silence", "unsilence", "comment")
#: Before a user's name, in commands and in the audit trail: names of the broker are no names of the operating system.
WHO = "clinician:"
BYTES_MOST = 8192
CONFIRM_S = 30
_TEXTS = {"command_id": 80, "action": 20, "until": 40, "reason": 500, "text": 2000, "as": 64, "confirm": 100}
_OWN = ("as", "confirm")


@dataclass(frozen=True)
class Answering:
    """Where the answer to a command goes."""

    team: str
    user: str
    topic: str
    correlation: bytes = b""
    """MQTT 5 correlation data, given back as it came."""


@dataclass(frozen=True)
class Taken:
    """A command for the alert engine."""

    document: dict[str, Any]
    to: Answering


@dataclass(frozen=True)
class Answered:
    """What is answered without the alert engine; `to` is None where nobody can be answered."""

    document: dict[str, Any]
    to: Answering | None


class _Refused(Exception):
    """The message cannot be a command; the text says why."""


def take(
    place: CommandTopic,
    payload: bytes,
    team_of_patient: str,
    key: bytes,
    now_s: float,
    *,
    retained: bool = False,
    response_topic: str = "",
    correlation: bytes = b"",
) -> Taken | Answered:
    """What becomes of a message on a command's topic.

    Parameters
    ----------
    team_of_patient
        The patient's care team now.
    key
        Secret of this process, for `confirm`.
    now_s
        Seconds since 1970.
    response_topic, correlation
        As MQTT 5 has them; only the user's replies topic and what is below it is answered on.
    """
    said: dict[str, Any] = {}
    user = place.user or replies_user(place.team, response_topic) or ""
    try:
        said = _read(payload)
        user = user or said.get("as", "")
        if place.user and said.get("as", user) != user:
            raise _Refused(f"`as` says {said['as']!r}, but the broker says {user!r}; leave it out")
        if not user:
            raise _Refused("the topic says nobody's name: publish to …/commands/USER, or name yourself in `as`")
        if response_topic and replies_user(place.team, response_topic) != user:
            wanted = replies_topic(place.team, user)
            raise _Refused(f"the response topic {response_topic[:200]!r} is not yours; use {wanted} or one below it")
        if retained:
            raise _Refused("a command must not be retained: it would be given again and again")
        if team_of_patient != place.team:
            raise _Refused(f"patient {place.patient!r} is not in the care of team {place.team!r}")
        if said.get("action") not in ACTIONS:
            raise _Refused(f"`action` must be one of {', '.join(ACTIONS)}; it is {said.get('action')!r}")
    except _Refused as error:
        return Answered(
            _answer(place, user, said, "refused", str(error)), _to(place, user, response_topic, correlation)
        )
    to = Answering(place.team, user, response_topic or replies_topic(place.team, user), correlation)
    if not place.user and not _is_confirmed(place, user, said, key, now_s):
        until = int(now_s) + CONFIRM_S
        answer = _answer(place, user, said, "confirm", f"send it again within {CONFIRM_S} s, with `as` and `confirm`")
        return Answered({**answer, "confirm": _confirm(place, user, said, key, until)}, to)
    command = {name: value for name, value in said.items() if name not in _OWN}
    command.setdefault("command_id", uuid.uuid4().hex)
    at = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    who = {"alert_id": place.alert, "patient": place.patient, "who": f"{WHO}{user}", "at": at}
    return Taken({**command, **who}, to)


def _read(payload: bytes) -> dict[str, Any]:
    if len(payload) > BYTES_MOST:
        raise _Refused(f"a command of {len(payload)} bytes; at most {BYTES_MOST} are taken")
    try:
        said = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _Refused(f"a command is a JSON object; this is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise _Refused(f"a command is a JSON object; this is {type(said).__name__}")
    for name, value in said.items():
        if name not in _TEXTS:
            raise _Refused(f"unknown field {name[:80]!r}; there are {', '.join(_TEXTS)}")
        if not isinstance(value, str) or len(value) > _TEXTS[name]:
            raise _Refused(f"`{name}` must be a text of at most {_TEXTS[name]} characters")
    if len(said.get("command_id", "x" * 8)) < 8:
        raise _Refused("`command_id` must have at least 8 characters, new ones for each command")
    return said


def _to(place: CommandTopic, user: str, response_topic: str, correlation: bytes) -> Answering | None:
    if not user:
        return None
    own = replies_user(place.team, response_topic) == user
    return Answering(place.team, user, response_topic if own else replies_topic(place.team, user), correlation)


def _answer(place: CommandTopic, user: str, said: dict[str, Any], outcome: str, detail: str) -> dict[str, Any]:
    """As the alert engine answers (alerting.replies)."""
    return {
        "command_id": said.get("command_id", ""), "alert_id": place.alert, "patient": place.patient,
        "team": place.team, "who": f"{WHO}{user}" if user else "", "action": said.get("action", ""),
        "outcome": outcome, "detail": detail, "state": "", "number": 0,
    }  # fmt: skip


def _confirm(place: CommandTopic, user: str, said: dict[str, Any], key: bytes, until: int) -> str:
    meant = {name: value for name, value in said.items() if name not in _OWN}
    text = orjson.dumps([until, user, *place[:3], meant], option=orjson.OPT_SORT_KEYS)
    return f"{until}.{hmac.new(key, text, hashlib.sha256).hexdigest()[:40]}"


def _is_confirmed(place: CommandTopic, user: str, said: dict[str, Any], key: bytes, now_s: float) -> bool:
    given = said.get("confirm", "")
    until = given.partition(".")[0]
    if not (until.isascii() and until.isdigit() and len(until) < 16 and now_s <= int(until)):
        return False
    return hmac.compare_digest(given.encode(), _confirm(place, user, said, key, int(until)).encode())
