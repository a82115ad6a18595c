"""Vitalgate: from a home medical device's MQTT message to a database row, an alert and an audit event.

The rooms and who may import whom are described in ``docs/architecture.md``;
``docs/tour.md`` walks one message through the files by name.
"""

__version__ = "0.1.0"
