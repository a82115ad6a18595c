"""Device catalogue, payload codecs, units, validation and versioning rules. Pure: no I/O, no clock."""
