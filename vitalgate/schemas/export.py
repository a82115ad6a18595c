"""The files of ``schemas/``: a JSON Schema of each public topic and of each message between device and Vitalgate, and
``asyncapi.json``; written, compared, released.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from vitalgate.schemas import mqtt
from vitalgate.schemas.asyncapi import document, public_topics
from vitalgate.schemas.compatibility import breaking_changes
from vitalgate.schemas.models import MODELS

Schema = dict[str, Any]
#: Below the folder of schemas: those of the last release, which later ones must be compatible with.
RELEASED = "released"


def generate() -> dict[str, Schema]:
    """Every file by its name, as JSON documents."""
    schemas: dict[str, Schema] = {}
    for topic in public_topics():
        schema = MODELS[topic.name].model_json_schema(by_alias=True, mode="serialization")
        schemas[topic.name] = _headed(topic.name, topic.what, schema)
    for name, model in mqtt.MODELS.items():
        schemas[name] = _headed(name, inspect.getdoc(model) or "", model.model_json_schema(mode="validation"))
    files = {f"{name}.schema.json": schema for name, schema in schemas.items()}
    files["asyncapi.json"] = document(schemas, public_topics())
    return files


def _headed(name: str, what: str, schema: Schema) -> Schema:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:vitalgate:schema:{name}:1"}
    return {**head, **schema, "title": name, "description": what}


def _text(document: Schema) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write all files into a folder (made when missing) and return their paths.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in generate().items():
        path = folder / name
        path.write_text(_text(schema), encoding="utf-8")
        paths.append(path)
    return paths


def problems(folder: Path) -> list[str]:
    """What is wrong with a folder of schemas: files that differ from the models, and breaks with the last release."""
    found = []
    generated = generate()
    for name, schema in generated.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing; run `vitalgate schema export {folder}`")
        elif path.read_text(encoding="utf-8") != _text(schema):
            found.append(
                f"{path} differs from the model; run `vitalgate schema export {folder}` and look at the change"
            )
    released = folder / RELEASED
    for path in sorted(released.glob("*.schema.json")):
        old = json.loads(path.read_text(encoding="utf-8"))
        new = generated.get(path.name)
        if new is None:
            found.append(f"{path.name}: the topic is gone; topics evolve by addition only")
        else:
            found += [f"{path.name} {change}" for change in breaking_changes(old, new)]
    if not any(released.glob("*.schema.json")):
        found.append(f"{released} is empty, so nothing was compared; run `vitalgate schema release {folder}`")
    return found


def release(folder: Path) -> list[Path]:
    """Take today's schemas as those of the release, which later ones are compared with."""
    return [path for path in write(folder / RELEASED) if path.name.endswith(".schema.json")]
