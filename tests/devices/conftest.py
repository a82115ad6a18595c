"""Hypothesis in this room: no deadline for one example, for the machine may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("vitalgate", deadline=None)
settings.load_profile("vitalgate")
