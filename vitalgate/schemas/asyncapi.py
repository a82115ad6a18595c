"""The AsyncAPI 3.0 document of Vitalgate: Kafka topics for data engineers, MQTT topics for devices and clinicians."""

from __future__ import annotations

from typing import Any

from vitalgate import __version__
from vitalgate.config import topics
from vitalgate.config.topics import Topic

Schema = dict[str, Any]

_DEVICE = {"device": "Device id; the MQTT user name."}
_TEAM = {"team": "Care team."}
_ALERT = {**_TEAM, "patient": "Opaque patient id.", "alert": "Alert id."}
#: Key, address, what Vitalgate does with it, description, parameters, schema; whether CBOR is taken too, whether the
#: broker retains it.
_MQTT: tuple[tuple[str, str, str, str, dict[str, str], str, bool, bool], ...] = (
    (
        "fromDeviceReadings", "v1/devices/{device}/readings", "receive", "What a device measured; docs/mqtt.md.",
        _DEVICE, "mqtt.readings", True, False,
    ),
    (
        "fromDeviceWaveforms", "v1/devices/{device}/waveforms", "receive", "Blocks of samples; docs/mqtt.md.",
        _DEVICE, "mqtt.waveforms", True, False,
    ),
    (
        "deviceStatus", "v1/devices/{device}/status", "receive", "Birth and last will.",
        _DEVICE, "mqtt.status", True, False,
    ),
    (
        "deviceReceipts", "v1/devices/{device}/receipts", "send", "What of the device's messages is kept.",
        _DEVICE, "mqtt.receipts", False, False,
    ),
    (
        "deviceDown", "v1/devices/{device}/down", "send", "The time, and the device's settings (these retained).",
        _DEVICE, "mqtt.down", False, True,
    ),
    (
        "alertState", "v1/alerts/{team}/{patient}/{alert}", "send", "One alert, retained while it is open.",
        _ALERT, topics.ALERTS.name, False, True,
    ),
    (
        "alertEvents", "v1/alerts/{team}/events", "send", "Every alert event of a team.",
        _TEAM, topics.ALERTS.name, False, False,
    ),
)  # fmt: skip


def _camel(name: str) -> str:
    head, *rest = name.replace("-", ".").split(".")
    return head + "".join(part.capitalize() for part in rest)


def document(schemas: dict[str, Schema], kafka_topics: tuple[Topic, ...]) -> Schema:
    """Build the document.

    Parameters
    ----------
    schemas
        JSON Schema of each public topic, and of each MQTT message, by name; files of the same names lie beside the
        document.
    kafka_topics
        Public topics, in the order they are to appear.

    Returns
    -------
    dict
        An AsyncAPI 3.0.0 document; ``$ref`` point to ``./NAME.schema.json``.
    """
    channels: dict[str, Schema] = {}
    operations: dict[str, Schema] = {}
    for topic in kafka_topics:
        key = _camel(topic.name)
        channels[key] = {
            "address": topic.name,
            "title": topic.name,
            "description": topic.what,
            "servers": [{"$ref": "#/servers/kafka"}],
            "messages": {
                key: {
                    "name": topic.name,
                    "contentType": "application/json",
                    "headers": {"$ref": "#/components/schemas/headers"},
                    "payload": {"$ref": f"./{topic.name}.schema.json"},
                }
            },
            "bindings": {
                "kafka": {
                    "topicConfiguration": {"cleanup.policy": ["compact" if topic.compacted else "delete"]},
                }
            },
        }
        operations[f"send.{topic.name}".replace(".", "_")] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "description": f"Keyed by {topic.key}; the order of one key holds. A repeat has the same message_id.",
        }
    for key, address, action, what, parameters, schema, cbor, retained in _MQTT:
        message: Schema = {
            "name": key,
            "contentType": "application/json",
            "payload": {"$ref": f"./{schema}.schema.json"},
        }
        if cbor:
            message["description"] = "JSON, or CBOR (RFC 8949) of the same shape."
        channels[key] = {
            "address": address,
            "description": what,
            "servers": [{"$ref": "#/servers/mqtt"}],
            "parameters": {name: {"description": text} for name, text in parameters.items()},
            "messages": {key: message},
        }
        operations[f"{action}_{key}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{key}"},
            "bindings": {"mqtt": {"qos": 1, "retain": retained}},
        }
    wanted = [topic.name for topic in kafka_topics] + [schema for *_, schema, _, _ in _MQTT]
    missing = [name for name in dict.fromkeys(wanted) if name not in schemas]
    if missing:
        raise ValueError(f"no schema for {', '.join(missing)}; add its model to vitalgate/schemas/models.py")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Vitalgate",
            "version": __version__,
            "description": "From a home device to readings, beats, features, alerts and an audit trail.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": {
            "kafka": {"host": "localhost:9092", "protocol": "kafka"},
            "mqtt": {"host": "localhost:1883", "protocol": "mqtt"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": {
                "headers": {
                    "type": "object",
                    "properties": {
                        "schema": {"type": "string", "description": "Base name of the topic."},
                        "schema_version": {"type": "string"},
                        "trace": {
                            "type": "string",
                            "description": "Trace id, 32 hex digits; the same through the whole path.",
                        },
                        "message_id": {"type": "string", "description": "Content identity: a repeat has the same id."},
                    },
                },
            }
        },
    }


def public_topics() -> tuple[Topic, ...]:
    """Kafka topics that others may read, in the order of `config.topics.ALL`."""
    return tuple(topic for topic in topics.ALL if topic.visibility == "public")
