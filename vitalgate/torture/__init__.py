"""Faults on purpose: the running system killed, cut, filled and starved, its results compared with a quiet run's."""
