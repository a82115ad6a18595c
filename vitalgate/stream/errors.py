"""The two kinds of trouble a worker can name."""


class TransientError(Exception):
    """Something outside is not there for now (database, Kafka): the same batch is handled again, for ever."""


class NotDeliveredError(TransientError):
    """Kafka did not take a record in time; the batch is handled again, so some records may be there twice."""


class RecordRefusedError(ValueError):
    """A record that Kafka can never take: which topic, how large, and the limit."""
