"""A device's settings as it finds them on its `down` topic. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


def settings_payload(revision: int, settings: Mapping[str, Any]) -> bytes:
    """The retained payload: ``{"type": "settings", "revision": n, "settings": {…}}``, keys in order."""
    return orjson.dumps({"type": "settings", "revision": revision, "settings": dict(sorted(settings.items()))})
