"""Ten thousand bad messages through the real stack: nothing restarts, and each is found as stored or dead-lettered."""

from __future__ import annotations

import time

import pytest

from vitalgate.devices import catalogue
from vitalgate.devices.reasons import Reason
from vitalgate.local.stack import Stack
from vitalgate.storage.registry import Registry
from vitalgate.stream import enrolment
from vitalgate.torture.fuzz_payloads import Fuzz
from vitalgate.torture.fuzz_run import Verdict, run

MESSAGES = 10_000
SEED = 20_261_121
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def verdict(stack: Stack) -> Verdict:
    settings = stack.settings.settings
    bad = {kind: f"fuzzed-{kind}" for kind in catalogue.load().kinds}
    clean = {kind: f"fuzzed-good-{kind}" for kind in bad}
    with Registry(settings.database) as registry:
        registry.add_patient("fuzzed", "Europe/Berlin", "care")
    wanted = [enrolment.Wanted(device, kind, "fuzzed") for kinds in (bad, clean) for kind, device in kinds.items()]
    told = enrolment.add(settings, wanted)
    assert told.applied
    passwords = {device.device_id: device.password for device in told.devices}
    fuzz = Fuzz(SEED, bad, clean, time.time_ns() // 1000)
    return run(stack.data, settings, passwords, fuzz, MESSAGES)


def test_at_least_six_in_ten_payloads_parse(verdict: Verdict) -> None:
    assert verdict.count == MESSAGES
    assert verdict.parsed >= 0.6 * MESSAGES


def test_no_process_ended_or_kept_growing_and_no_record_was_set_aside(verdict: Verdict) -> None:
    assert verdict.restarted == []
    assert verdict.set_aside == 0
    assert not [fault for fault in verdict.faults() if "grew" in fault]


def test_each_payload_is_found_by_its_hash_as_stored_or_dead_lettered(verdict: Verdict) -> None:
    assert verdict.nowhere == []
    assert verdict.stored > verdict.dead / 10


def test_devices_that_do_nothing_wrong_are_not_harmed(verdict: Verdict) -> None:
    assert verdict.harmed == []


def test_every_reason_that_a_device_can_cause_was_hit_and_none_other(verdict: Verdict) -> None:
    assert set(verdict.reasons) == {reason.value for reason in Reason if reason.by_device}


def test_what_the_broker_refuses_is_told_by_its_log(verdict: Verdict) -> None:
    assert verdict.tricks > 0
    assert verdict.refused >= verdict.tricks
    assert verdict.cut_off == verdict.giants > 0
