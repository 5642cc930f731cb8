"""Events against the JSON Schemas in docs/, with no field but those that the schema names: what is written has no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator


def closed(schema: Any) -> Any:
    """The schema with no room for further fields; the published one leaves it to later versions."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema and schema.get("type") == "object" else {}
    return {key: closed(value) for key, value in schema.items()} | more


def validator(path: Path) -> Draft202012Validator:
    """Of the schema in a file, which has to be one."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(closed(schema))


def faults(checker: Draft202012Validator, event: Any) -> list[str]:
    """What is wrong with an event, by the schema of its own type."""
    of_type = checker.evolve(schema={"$ref": f"#/$defs/{event['type']}", "$defs": checker.schema["$defs"]})
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in of_type.iter_errors(event)]
