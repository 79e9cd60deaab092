"""The Files and Batch API as OpenAPI describes it."""

from batchgen.sandbox import shape
from batchgen.sandbox.parameter import Schema

_SECOND: Schema = {"type": ["integer", "null"]}
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled", "expires")
_STATUSES = ["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
_METADATA: Schema = {
    "type": ["object", "null"],
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}
_EXPIRY = shape.fields(anchor={"const": "created_at"}, seconds={"type": "integer", "minimum": 3600, "maximum": 2592000})
FILE = shape.fields(
    id=shape.STRING,
    object={"const": "file"},
    bytes=shape.INTEGER,
    created_at=shape.INTEGER,
    expires_at=_SECOND,
    filename=shape.STRING,
    purpose=shape.STRING,
    status={"enum": ["uploaded", "processed", "error"]},
    status_details=shape.MAYBE,
)
_ERROR = shape.fields(code=shape.STRING, line=_SECOND, message=shape.STRING, param=shape.MAYBE)
_USAGE = shape.fields(
    input_tokens=shape.INTEGER,
    input_tokens_details=shape.fields(cached_tokens=shape.INTEGER),
    output_tokens=shape.INTEGER,
    output_tokens_details=shape.fields(reasoning_tokens=shape.INTEGER),
    total_tokens=shape.INTEGER,
)
BATCH = shape.fields(
    id=shape.STRING,
    object={"const": "batch"},
    endpoint=shape.STRING,
    model=shape.MAYBE,
    errors={
        "anyOf": [{"type": "null"}, shape.fields(object={"const": "list"}, data={"type": "array", "items": _ERROR})]
    },
    input_file_id=shape.STRING,
    completion_window={"const": "24h"},
    status={"enum": _STATUSES},
    output_file_id=shape.MAYBE,
    error_file_id=shape.MAYBE,
    created_at=shape.INTEGER,
    **{f"{name}_at": _SECOND for name in _TIMES},
    request_counts=shape.fields(total=shape.INTEGER, completed=shape.INTEGER, failed=shape.INTEGER),
    usage={"anyOf": [{"type": "null"}, _USAGE]},
    metadata=_METADATA,
)
_GONE = shape.fields(id=shape.STRING, object={"const": "file"}, deleted={"const": True})
_UPLOAD: Schema = {
    "type": "object",
    "properties": {"purpose": shape.STRING, "file": {"type": "string", "format": "binary"}, "expires_after": _EXPIRY},
    "required": ["purpose", "file"],
}
_CREATE: Schema = {
    "type": "object",
    "properties": {
        "input_file_id": shape.STRING,
        "endpoint": {"enum": ["/v1/images/generations", "/v1/images/edits"]},
        "completion_window": {"const": "24h"},
        "metadata": _METADATA,
        "output_expires_after": _EXPIRY,
    },
    "required": ["input_file_id", "endpoint", "completion_window"],
    "additionalProperties": False,
}


def paths() -> Schema:
    page = [_query("after", shape.STRING), _query("limit", shape.INTEGER)]
    more = [_query("order", {"enum": ["asc", "desc"]}), _query("purpose", shape.STRING)]
    named: Schema = {"name": "id", "in": "path", "required": True, "schema": shape.STRING}
    raw: Schema = {"type": "string", "format": "binary"}
    return {
        "/files": {
            "post": _call("upload", FILE, _body("multipart/form-data", _UPLOAD)),
            "get": _call("files", _list(FILE), parameters=[*page, *more]),
        },
        "/files/{id}": {
            "get": _call("file", FILE, parameters=[named]),
            "delete": _call("delete", _GONE, parameters=[named]),
        },
        "/files/{id}/content": {"get": _call("content", raw, parameters=[named], kind="application/octet-stream")},
        "/batches": {
            "post": _call("create", BATCH, _body("application/json", _CREATE)),
            "get": _call("batches", _list(BATCH), parameters=page),
        },
        "/batches/{id}": {"get": _call("batch", BATCH, parameters=[named])},
        "/batches/{id}/cancel": {"post": _call("cancel", BATCH, parameters=[named])},
    }


def _call(
    name: str, answer: Schema, body: Schema | None = None, parameters: object = (), kind: str = "application/json"
) -> Schema:
    content: Schema = {kind: {"schema": answer}}
    responses = {"200": {"description": "Done", "content": content}, "default": {"description": "Refused, and why"}}
    return {"operationId": name, "parameters": parameters, **(body or {}), "responses": responses}


def _body(kind: str, schema: Schema) -> Schema:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def _query(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "schema": schema}


def _list(item: Schema) -> Schema:
    data: Schema = {"type": "array", "items": item}
    return shape.fields(
        object={"const": "list"}, data=data, first_id=shape.MAYBE, last_id=shape.MAYBE, has_more={"type": "boolean"}
    )
