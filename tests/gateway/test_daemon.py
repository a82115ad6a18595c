"""A process that cannot go on ends with the status that asks for a new one; one that is asked to stop ends with 0."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from vitalgate.config.loading import load
from vitalgate.gateway.daemon import EXIT_RESTART, run_daemon
from vitalgate.gateway.gateway import Gateway, GatewayFailed
from vitalgate.gateway.kafka_out import KafkaOut


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    flags = {"mqtt.port": "1", "kafka.bootstrap": "127.0.0.1:1", "log.level": "error"}
    return load(env={}, data=str(tmp_path), flags=flags).settings


@pytest.mark.parametrize("fatal", [True, False])
def test_a_refused_record_or_a_fatal_producer_ends_the_gateway(settings: Any, fatal: bool) -> None:
    gateway = Gateway(settings, "x")
    out: KafkaOut = gateway._out

    def break_it() -> None:
        time.sleep(0.3)
        if fatal:
            error = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "out of order", True)
            out._error(error)
        else:
            out.take(1, 10).delivered(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), SimpleNamespace())

    threading.Thread(target=break_it).start()
    with pytest.raises(GatewayFailed, match="out of order" if fatal else "did not take a record"):
        gateway.run()
    assert out.done_count == 0


class _Daemon:
    def __init__(self, error: Exception | None) -> None:
        self.stopped = threading.Event()
        self._error = error

    def run(self) -> None:
        if self._error is not None:
            raise self._error
        assert self.stopped.wait(20)

    def stop(self) -> None:
        self.stopped.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_it_and_a_fault_asks_for_a_restart(settings: Any, number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert run_daemon("t", settings, lambda _: _Daemon(RuntimeError("broken"))) == EXIT_RESTART
        timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
        timer.start()
        assert run_daemon("t", settings, lambda _: _Daemon(None)) == 0
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
