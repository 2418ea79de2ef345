"""Values held against a JSON Schema. `jsonschema.validate` looks at the schema first, each time, which takes longer."""

from __future__ import annotations

import json
from functools import cache

from jsonschema import validators


@cache
def _validator(text):
    schema = json.loads(text)
    kind = validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def conform(value, schema):
    """Raise `jsonschema.ValidationError` when the value is not what the schema says."""
    _validator(json.dumps(schema)).validate(value)
