"""A dialect as an OpenAPI document, made of the tables that its requests are checked against."""

from batchgen.sandbox import batch_shapes, shape
from batchgen.sandbox.dialect import Dialect, Operation
from batchgen.sandbox.parameter import Schema, object_schema

_TASK = shape.fields(
    code=shape.INTEGER,
    message=shape.STRING,
    data=shape.fields(
        task_id=shape.STRING,
        status={"type": "string", "enum": ["created", "in_progress", "completed", "failed"]},
        outputs={"type": "array", "items": shape.STRING},
        fail_reason=shape.STRING,
    ),
)
_NO_TASK = shape.fields(code=shape.INTEGER, message=shape.STRING)
_MODELS = shape.fields(object=shape.STRING, data={"type": "array", "items": {"type": "object"}})


def document(dialect: Dialect, origin: str) -> Schema:
    """`origin` is where it is served, as in http://127.0.0.1:8080."""
    paths: Schema = {f"/{each.path}": {"post": _operation(dialect, each)} for each in dialect.operations}
    paths["/models"] = {"get": {"operationId": "models", "responses": _responses(_MODELS)}}
    if dialect.tasks:
        paths["/images/tasks/{task_id}"] = {"get": _poll()}
    if dialect.batches:
        paths |= batch_shapes.paths()
    return {
        "openapi": "3.1.0",
        "info": {"title": f"The sandbox's {dialect.name} dialect", "version": "1.0.0"},
        "servers": [{"url": f"{origin}/{dialect.name}/v1"}],
        "paths": paths,
        **_security(dialect),
    }


def _security(dialect: Dialect) -> Schema:
    if not dialect.lock.scheme:
        return {"security": []}
    return {"components": {"securitySchemes": {"key": dict(dialect.lock.scheme)}}, "security": [{"key": []}]}


def _operation(dialect: Dialect, operation: Operation) -> Schema:
    content: Schema = {
        kind: {"schema": object_schema(table, open_to_more=operation.open_to_more)}
        for kind, table in operation.tables.items()
    }
    responses = _responses(dialect.response)
    if any("stream" in table for table in operation.tables.values()):
        responses = _responses(dialect.response, {"text/event-stream": {"schema": shape.STRING}})
    body: Schema = {"required": True, "content": content}
    query: list[Schema] = [
        {"name": name, "in": "query", "required": True, "schema": shape.STRING} for name in dialect.lock.query
    ]
    return {"operationId": operation.name, "parameters": query, "requestBody": body, "responses": responses}


def _poll() -> Schema:
    where: Schema = {"name": "task_id", "in": "path", "required": True, "schema": shape.STRING}
    return {"operationId": "task", "parameters": [where], "responses": _responses({"oneOf": [_TASK, _NO_TASK]})}


def _responses(schema: Schema, more: Schema | None = None) -> Schema:
    content: Schema = {"application/json": {"schema": schema}, **(more or {})}
    return {"200": {"description": "Done", "content": content}, "default": {"description": "Refused, and why"}}
