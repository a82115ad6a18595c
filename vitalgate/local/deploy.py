"""The configuration files shared with docker-compose: `deploy/` of the checkout, or its copy in the wheel."""

from __future__ import annotations

from pathlib import Path

from vitalgate.local.errors import StackError

_PLACES = (Path(__file__).parents[2] / "deploy", Path(__file__).with_name("deploy"))


def deploy_file(*parts: str) -> Path:
    """Path of a shared configuration file, such as ``deploy_file("kafka", "server.properties")``."""
    for place in _PLACES:
        path = place.joinpath(*parts)
        if path.is_file():
            return path
    raise StackError(f"configuration file deploy/{'/'.join(parts)} is missing; install Vitalgate anew")
