"""The audit trail: hash-chained events and signed checkpoints. Pure: no I/O, no clock."""
