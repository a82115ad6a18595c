"""The Faust workers and what they stand on: harness, producer, registry view, read-back."""
