"""The Faust app of a worker process, with the settings that were measured to lose nothing and to come back fast."""

from __future__ import annotations

from typing import Any

import faust
from faust.types import TP, AppT, EventT

from vitalgate.config.settings import Settings
from vitalgate.stream.worker import Worker

HEARTBEAT_S = 1.0
_LONG_S = 86_400.0


class _App(faust.App):
    """Faust without its working directory: there are no tables to keep in it."""

    def _create_directories(self) -> None:
        return


class _Quiet(faust.Monitor):
    """Faust's own count of each event costs a good part of its time; the harness measures batches instead."""

    def on_message_in(self, tp: TP, offset: int, message: Any) -> None:
        return

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: EventT[Any]) -> None:
        return

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: EventT[Any], state: Any = None) -> None:
        return

    def on_message_out(self, tp: TP, offset: int, message: Any) -> None:
        return


def group(settings: Settings, name: str) -> str:
    """Kafka consumer group of a worker."""
    return f"{settings.kafka.prefix}vitalgate-{name}"


def make_app(worker: Worker, settings: Settings, slot: str) -> AppT:
    """The app, not started; call inside the event loop it shall run in."""
    return _App(
        group(settings, worker.name),
        broker=[f"kafka://{node.strip()}" for node in settings.kafka.bootstrap.split(",")],
        broker_client_id=f"vitalgate-{worker.name}-{slot}",
        # A static member: a killed worker has its partitions back in 1.6 s instead of 59.
        consumer_group_instance_id=f"{worker.name}-{slot}",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.worker.session_timeout_s,
        broker_heartbeat_interval=min(HEARTBEAT_S, settings.worker.session_timeout_s / 3),
        broker_rebalance_timeout=max(10.0, 2 * settings.worker.session_timeout_s),
        broker_commit_interval=settings.worker.commit_interval_s,
        # A handler that waits hours for the database is no reason to leave the group or to fill the log.
        broker_max_poll_interval=_LONG_S,
        stream_processing_timeout=_LONG_S,
        broker_commit_livelock_soft_timeout=_LONG_S,
        # True would let SIGTERM hang for as long as the database is away.
        stream_wait_empty=False,
        stream_buffer_maxsize=worker.read_ahead,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        key_serializer="raw",
        value_serializer="raw",
        Monitor=_Quiet,
    )
