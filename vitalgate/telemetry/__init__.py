"""Logs, metrics and health of a process. No clinical value ever passes through here."""
