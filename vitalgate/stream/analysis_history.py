"""Older samples of a line, from the database."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np

from vitalgate.config.settings import DatabaseSettings
from vitalgate.storage.errors import TransientDatabaseError
from vitalgate.storage.waveforms import read_samples
from vitalgate.stream.analysis_line import Key, Packet, millivolts
from vitalgate.stream.errors import TransientError
from vitalgate.stream.registry_view import RegistryView

#: Before every packet that came by Kafka, in the device's order.
_OLDEST = (-1, 0, 0)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class History:
    """Reads what the recorder stored; only what was measured while the patient had the device."""

    def __init__(self, database: DatabaseSettings, registry: RegistryView) -> None:
        self._database = database
        self._registry = registry

    def read(self, key: Key, first: int, stop: int) -> list[Packet]:
        """Packets that hold samples [first, stop) of a line, with gaps as NaN. Blocks: call it in a thread.

        Raises
        ------
        TransientError
            When the database is away.
        """
        try:
            found = read_samples(self._database, key.device, key.channel, key.recording, first, stop)
        except TransientDatabaseError as error:
            raise TransientError(str(error)) from error
        if found is None or (found.rate.numerator, found.rate.denominator) != _reduced(key):
            return []
        samples = millivolts(found.samples, found.scale.offset, found.scale.gain, found.scale.unit)
        if samples is None:
            return []
        samples[~found.present] = np.nan
        edges = [max(found.first, number) for number, _ in found.anchors] + [found.stop]
        edges[0] = found.first
        packets = []
        for low, high in itertools.pairwise(edges):
            if low >= high:
                continue
            start_us = (found.time_of(low) - _EPOCH) // timedelta(microseconds=1)
            if self._registry.patient_at(key.device, start_us) == key.patient:
                piece = samples[low - found.first : high - found.first]
                if not np.isnan(piece).all():
                    packets.append(Packet(low, high, _OLDEST, start_us, piece))
        return packets


def _reduced(key: Key) -> tuple[int, int]:
    divisor = int(np.gcd(key.rate_num, key.rate_den))
    return key.rate_num // divisor, key.rate_den // divisor
