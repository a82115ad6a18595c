"""Alerts handed over to where people look: which, to whom and when (pure), and the senders that do it."""
