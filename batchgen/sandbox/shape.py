"""The parts of which answers are made, as JSON Schema."""

from batchgen.sandbox.parameter import Schema

INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
STRING: Schema = {"type": "string"}
MAYBE: Schema = {"type": ["string", "null"]}


def fields(**properties: Schema) -> Schema:
    """An object with exactly these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def items(**properties: Schema) -> Schema:
    """A list of objects that have these, or some of them."""
    return {"type": "array", "items": {"type": "object", "properties": properties, "additionalProperties": False}}


KINDS = fields(text_tokens=INTEGER, image_tokens=INTEGER)
USAGE = fields(
    input_tokens=INTEGER,
    input_tokens_details=KINDS,
    output_tokens=INTEGER,
    output_tokens_details=KINDS,
    total_tokens=INTEGER,
)
