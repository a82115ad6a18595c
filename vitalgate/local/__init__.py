"""The one-machine stack: starts and stops broker, Kafka, database and our own processes."""
