"""PostgreSQL (with TimescaleDB where the extension is present): migrations, writers and readers."""
