"""In whose name the registry is changed, and commands are run."""

from __future__ import annotations

import getpass


def user() -> str:
    """Who runs a command: `user:` and the name that the operating system knows."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return "user:unknown"
