"""LEAD IS WRITING export, docs/queries.md and docs/data-dictionary.md RIGHT NOW (18:28)."""
