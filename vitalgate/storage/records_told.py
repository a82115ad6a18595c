"""Tell live queries of readings that were stored: one change a patient and batch, in the recorder's transaction."""

from __future__ import annotations

from vitalgate.storage.connect import Connection
from vitalgate.storage.times import moment
from vitalgate.storage.work import Work


def readings(connection: Connection, work: Work, partition: int, first: int, last: int) -> None:
    """Write the changes of a batch, if anything of it is somebody's readings.

    Parameters
    ----------
    partition, first, last
        Where the batch lies on device.raw: by `raw_partition` and `raw_offset` its readings are found.
    """
    spans: dict[str, list[int]] = {}
    for device, times in work.stored_times():
        low, high = min(times), max(times)
        span = spans.setdefault(device, [low, high, 0])
        spans[device] = [min(span[0], low), max(span[1], high), span[2] + len(times)]
    if not spans:
        return
    connection.execute(
        "SELECT tell_readings(%s, %s, %s, %s, %s, %s, %s)",
        (
            list(spans), [moment(span[0]) for span in spans.values()], [moment(span[1]) for span in spans.values()],
            [span[2] for span in spans.values()], partition, first, last,
        ),
    )  # fmt: skip
