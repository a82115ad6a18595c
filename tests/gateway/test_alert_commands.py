"""What a command's message becomes: nothing raises, and nobody speaks in another's name."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vitalgate.gateway.alert_commands import CONFIRM_S, Answered, Taken, take
from vitalgate.gateway.alert_topics import (
    CommandTopic,
    alert_topic,
    clinician_rights,
    parse_command_topic,
    replies_topic,
    replies_user,
)

KEY = b"k" * 32
NOW = 1_800_000_000.0
OWN = CommandTopic("care", "p", "alert-1", "anna")
SHARED = CommandTopic("care", "p", "alert-1", "")
_fields = st.sampled_from(["command_id", "action", "until", "reason", "text", "as", "confirm", "who"])
_values = st.one_of(st.text(max_size=90), st.integers(), st.none(), st.sampled_from(["acknowledge", "anna", "ben"]))
_payloads = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(_fields, _values).map(lambda said: json.dumps(said).encode()),
    st.recursive(st.integers(), st.lists).map(lambda value: json.dumps(value).encode()),
)


@given(_payloads, st.sampled_from([OWN, SHARED]), st.sampled_from(["care", "other"]), st.text(max_size=30))
def test_whatever_is_sent_is_taken_or_answered_in_the_name_that_the_broker_proves(
    payload: bytes, place: CommandTopic, team: str, answer: str
) -> None:
    made = take(place, payload, team, KEY, NOW, response_topic=answer)
    if isinstance(made, Taken):
        assert place.user == "anna"
        assert team == place.team
        assert made.document["who"] == "clinician:anna"
        assert (made.document["patient"], made.document["alert_id"]) == ("p", "alert-1")
        assert made.to.topic.startswith("v1/alerts/care/replies/anna")
    elif made.to is not None:
        assert made.document["outcome"] in ("refused", "confirm")
        assert made.to.topic.startswith(replies_topic("care", made.to.user))


def said(**fields: Any) -> bytes:
    return json.dumps({"action": "acknowledge", "as": "anna", **fields}).encode()


def test_a_confirmation_holds_for_one_user_one_command_and_half_a_minute() -> None:
    asked = take(SHARED, said(), "care", KEY, NOW)
    assert isinstance(asked, Answered)
    assert asked.to is not None
    assert asked.to.topic == replies_topic("care", "anna")
    confirm = asked.document["confirm"]
    assert isinstance(take(SHARED, said(confirm=confirm), "care", KEY, NOW + CONFIRM_S - 1), Taken)
    for place, payload, key, now in (
        (SHARED, said(confirm=confirm), KEY, NOW + CONFIRM_S + 1),
        (SHARED, said(confirm=confirm, action="unsilence"), KEY, NOW),
        (SHARED, said(confirm=confirm).replace(b"anna", b"benn"), KEY, NOW),
        (SHARED._replace(alert="alert-2"), said(confirm=confirm), KEY, NOW),
        (SHARED, said(confirm=confirm), b"x" * 32, NOW),
    ):
        assert isinstance(take(place, payload, "care", key, now), Answered)


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1, max_size=20))
def test_names_survive_the_way_through_topics(team: str, patient: str, alert: str, user: str) -> None:
    base = alert_topic({"team": team, "patient": patient, "alert_id": alert})
    assert parse_command_topic(f"{base}/commands") == (team, patient, alert, "")
    topic = replies_topic(team, user)
    assert replies_user(team, topic) == user
    assert not base.startswith(f"{'/'.join(topic.split('/')[:4])}/")


def test_rights_name_exact_teams_and_the_answers_of_others_are_kept_back() -> None:
    rules = clinician_rights("anna", ["care", "a+b/#"])
    assert all("+b" not in rule["topic"] for rule in rules)
    received = sorted((r for r in rules if r["acltype"] == "publishClientReceive"), key=lambda r: -r["priority"])
    care = [(r["topic"].removeprefix("v1/alerts/care/"), r["allow"]) for r in received if "/care/" in r["topic"]]
    assert care[:2] == [("replies/anna/#", True), ("replies/#", False)]
