"""Brings what is kept of devices' numbering forward to what the database holds, where the topic of it was lost."""

from __future__ import annotations

import time
from collections.abc import Iterable

from vitalgate.config.settings import Settings
from vitalgate.devices.records import DeviceSequences, Kept
from vitalgate.devices.sequences import NOTHING, add, contains, find, replace
from vitalgate.storage.connect import connect
from vitalgate.storage.errors import transient

_NUMBERS = """
    SELECT device_id, epoch, seq, max(epoch_no), max(raw_offset) FROM (
        SELECT device_id, epoch, seq, epoch_no, raw_offset FROM readings WHERE raw_partition = %(n)s
            AND raw_offset > %(since)s AND seq IS NOT NULL
        UNION ALL SELECT device_id, epoch, seq, epoch_no, raw_offset FROM waveforms WHERE raw_partition = %(n)s
            AND raw_offset > %(since)s AND seq IS NOT NULL
        UNION ALL SELECT device_id, epoch, seq, epoch_no, raw_offset FROM pending_corrections
            WHERE raw_partition = %(n)s AND raw_offset > %(since)s
        UNION ALL SELECT device_id, epoch, seq, 0, raw_offset FROM device_status WHERE raw_partition = %(n)s
            AND raw_offset > %(since)s AND seq IS NOT NULL
        UNION ALL SELECT device_id, epoch, seq, 0, raw_offset FROM dead_letters WHERE raw_partition = %(n)s
            AND raw_offset > %(since)s AND seq IS NOT NULL) AS found
    WHERE epoch IS NOT NULL AND seq >= 0 GROUP BY 1, 2, 3 ORDER BY 5, 3
"""
Number = tuple[str, str, int, int, int]
"""(device, epoch, seq, epoch's number or 0, raw number)."""


def stored_since(settings: Settings, partition: int, since: int) -> list[Number]:
    """Numbers of messages that the database has from raw records after this one. Raises TransientDatabaseError."""
    with transient(), connect(settings.database, "backup") as connection:
        rows = connection.execute(_NUMBERS, {"n": partition, "since": since}).fetchall()
    return [(str(device), str(epoch), int(seq), int(no), int(offset)) for device, epoch, seq, no, offset in rows]


def brought_forward(states: Iterable[DeviceSequences], numbers: Iterable[Number]) -> dict[str, DeviceSequences]:
    """The states with these numbers kept, and those of devices that had none. Pure but for the time of an open gap."""
    now_us = time.time_ns() // 1000
    found = {state.device: state for state in states}
    for device, epoch, seq, number, offset in numbers:
        state = found.get(device) or DeviceSequences(device, -1)
        kept = find(state, epoch)
        if kept is None:
            highest = max((one.epoch_no for one in state.epochs), default=0)
            kept = Kept(epoch, number or highest + 1, NOTHING)
            epochs = [*state.epochs, kept]
        else:
            epochs = list(state.epochs)
        if not contains(kept, seq):
            epochs[epochs.index(kept)] = add(kept, seq, now_us)
        found[device] = replace(
            state, epochs=sorted(epochs, key=lambda one: one.epoch_no), offset=max(state.offset, offset), touched=[]
        )
    return found
