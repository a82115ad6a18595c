"""Every queue between a device and a row: what bounds it, what happens at the bound, and the test that fills it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Queue:
    """One place in which something waits."""

    where: str
    bound: str
    at_the_bound: str
    test: str
    """Test file and name below `tests/`, or a fault of this room."""


_STALLED = "gateway/test_gateway.py::test_with_kafka_stalled_it_stops_taking_does_not_grow_and_loses_nothing"
QUEUES: tuple[Queue, ...] = (
    Queue(
        "a device's outbox (SQLite)", "`max_bytes`, 256 MiB", "`OutboxFull`: nothing is taken, what is in it stays",
        "client/test_outbox.py::test_a_full_outbox_says_so_and_keeps_what_it_has",
    ),
    Queue(
        "messages of a device on their way without a receipt", "`Policy.window`, 64", "the rest waits in the outbox",
        "client/test_protocol.py::test_a_reconnect_makes_everything_due_and_the_window_holds",
    ),
    Queue(
        "Mosquitto's queue for the gateway's session", "`mqtt.max_queued_bytes`, 1 GiB",
        "alarm at half; behind it Mosquitto drops what it acknowledged: outboxes send again, plain QoS 1 leaves a gap",
        "fault `full-queue`",
    ),
    Queue(
        "unacknowledged messages from the broker to one gateway", "`mqtt.receive_maximum`, 4,000",
        "the broker holds the rest", _STALLED,
    ),
    Queue(
        "bytes in the gateway without Kafka's word", "`gateway.max_pending_bytes`, 64 MiB, and `kafka.max_pending`",
        "the gateway stops reading; the broker queues", _STALLED,
    ),
    Queue(
        "records that a worker has read ahead", "`worker.queue_max`, 4,000, and twice the batch's bytes",
        "the worker stops fetching", "torture/test_queues.py::test_a_full_buffer_lets_its_writer_wait",
    ),
    Queue(
        "records that a worker has sent without Kafka's word", "`kafka.max_pending`, 20,000, and 128 MiB",
        "`produce` waits", "stream/test_producer.py::test_it_waits_instead_of_growing_while_kafka_stands_still",
    ),
    Queue(
        "ECG samples of a line in the analysis worker", "90 s and a fixed number of blocks",
        "older samples are read from the database when they are needed",
        "analysis/test_analysis_core.py::test_memory_is_bounded",
    ),
    Queue(
        "one direction of one connection in the fault proxy", "64 KiB", "it stops reading",
        "torture/test_proxy.py::test_a_stall_is_bounded",
    ),
)  # fmt: skip
