"""Simulated patients and devices: physiology, scenarios, replay of recordings, and a journal of all that was sent.

Only the device side is here: everything reaches the system over MQTT as a device's own messages would, and what
became of it is judged from outside, by joining the journal with the database.
"""
