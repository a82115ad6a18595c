"""MQTT in, Kafka out; receipts, alerts and credentials back to the broker."""
