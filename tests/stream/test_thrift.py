"""A library that repeats itself is heard once in ten seconds; our own lines always."""

from __future__ import annotations

import logging

from vitalgate.stream.thrift import Thrift


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "f", 1, message, ("1",), None)


def test_repeated_lines_of_libraries_are_counted_instead_of_written() -> None:
    now = 0.0
    thrift = Thrift(clock=lambda: now)
    written = []
    for _ in range(25):
        line = record("aiokafka.cluster", "Unable connect to node %s")
        if thrift.filter(line):
            written.append(getattr(line, "repeated", 0))
        now += 1
    assert written == [0, 9, 9]
    assert all(thrift.filter(record("vitalgate.stream.intake", "same")) for _ in range(5))
    assert thrift.filter(record("aiokafka.cluster", "another line"))
