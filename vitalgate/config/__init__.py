"""Settings and topic names: what every process is told at start. Imports nothing of ours."""
