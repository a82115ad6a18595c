"""The figures of the status, from the metrics of processes."""

from __future__ import annotations

from vitalgate.local.figures import parse, summary

INTAKE = """
# TYPE vitalgate_dead_lettered_total counter
vitalgate_dead_lettered_total{reason="schema"} 3.0
vitalgate_dead_lettered_total{reason="oversize"} 0.0
# TYPE vitalgate_sequence_gaps gauge
vitalgate_sequence_gaps 2.0
# TYPE vitalgate_worker_lag gauge
vitalgate_worker_lag{partition="0",topic="device.raw",worker="intake"} 5.0
vitalgate_worker_lag{partition="1",topic="device.raw",worker="intake"} 7.0
"""
RECORDER = """
# TYPE vitalgate_worker_lag gauge
vitalgate_worker_lag{partition="0",topic="device.validated",worker="recorder"} 0.0
# TYPE vitalgate_audit_broken gauge
vitalgate_audit_broken 0.0
"""
REGISTRAR = """
# TYPE vitalgate_broker_queue_bytes gauge
vitalgate_broker_queue_bytes 1024.0
# TYPE vitalgate_broker_queue_ratio gauge
vitalgate_broker_queue_ratio 0.25
# TYPE vitalgate_broker_denied_total counter
vitalgate_broker_denied_total 4.0
# TYPE vitalgate_audit_broken gauge
vitalgate_audit_broken 417.0
# TYPE vitalgate_audit_verified_links gauge
vitalgate_audit_verified_links 416.0
# TYPE vitalgate_ledger_unbalanced gauge
vitalgate_ledger_unbalanced 0.0
# TYPE vitalgate_ledger_lost gauge
vitalgate_ledger_lost 0.0
# TYPE vitalgate_checked_timestamp_seconds gauge
vitalgate_checked_timestamp_seconds{what="audit"} 1.7e+09
"""


def test_figures_are_taken_from_whoever_knows_them() -> None:
    told = summary({"intake": parse(INTAKE), "recorder": parse(RECORDER), "registrar": parse(REGISTRAR)})
    assert told["lag"] == {"intake": 12, "recorder": 0}
    assert (told["open_gaps"], told["dead_letters"]) == (2, {"schema": 3})
    assert told["broker"] == {"queue_bytes": 1024, "queue_ratio": 0.25, "refused": 4}
    assert told["audit"] == {"verified_links": 416, "broken_at": 417, "verified_at": 1.7e9}
    assert told["ledger"]["balanced"] is None  # not reckoned yet: nobody knows


def test_a_process_that_does_not_answer_leaves_its_figures_out() -> None:
    told = summary({})
    assert told["lag"] == {} and told["broker"]["queue_bytes"] is None and told["audit"]["broken_at"] is None
