"""Validation of a batch's input file: its lines with where they stand, or what is wrong with it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchgen.sandbox import tokens

MOST = 50_000
_MOST_ERRORS = 100
_UNBATCHED = "2.6"  # the family of models that no batch takes
_UNFIT = ("stream", "response_format")  # in a line's body


@dataclass(frozen=True, slots=True)
class Line:
    """A request of the file; `number` counts from 1."""

    number: int
    offset: int
    length: int
    custom_id: str


@dataclass(slots=True)
class Checked:
    """What a file holds; `errors` are as the API tells them."""

    lines: list[Line] = field(default_factory=list)
    model: str | None = None
    tokens: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)

    def wrong(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append({"code": code, "line": line, "message": message, "param": param})


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at files for one endpoint; `family` is that of a model, empty where there is no such."""

    endpoint: str
    family: Callable[[str], str]

    def __call__(self, path: Path) -> Checked:
        found, known = Checked(), set[str]()
        for number, offset, raw in _lines(path):
            if number > MOST:
                found.wrong("too_many_tasks", f"The batch input file has more than {MOST} requests.", number)
                break
            fields = self._fields(raw, number, found)
            if fields is not None:
                self._identify(fields, number, known, found)
                self._address(fields, number, found)
                self._body(fields.get("body"), number, found)
                found.lines.append(Line(number, offset, len(raw), str(fields.get("custom_id"))))
        if not found.lines and not found.errors:
            found.wrong("empty_file", "The batch input file is empty. Please ensure that it contains a request.")
        return found

    def _fields(self, raw: bytes, number: int, found: Checked) -> dict[str, Any] | None:
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            found.wrong("invalid_json_line", "This line is not parseable as valid JSON.", number)
            return None
        return fields

    def _identify(self, fields: dict[str, Any], number: int, known: set[str], found: Checked) -> None:
        name = fields.get("custom_id")
        if not isinstance(name, str) or not name:
            found.wrong("missing_required_parameter", "Missing required parameter: 'custom_id'.", number, "custom_id")
        elif name in known:
            message = (
                f"The custom_id '{name}' for this request is a duplicate of another request."
                " The custom_id parameter must be unique for each request in a batch."
            )
            found.wrong("duplicate_custom_id", message, number, "custom_id")
        else:
            known.add(name)

    def _address(self, fields: dict[str, Any], number: int, found: Checked) -> None:
        if fields.get("url") != self.endpoint:
            message = f"The URL provided for this request does not match the batch endpoint '{self.endpoint}'."
            found.wrong("invalid_url", message, number, "url")
        if fields.get("method") != "POST":
            found.wrong(
                "invalid_method", "Invalid value for 'method': the only one supported is 'POST'.", number, "method"
            )

    def _body(self, body: object, number: int, found: Checked) -> None:
        if not isinstance(body, dict):
            found.wrong("missing_required_parameter", "Missing required parameter: 'body'.", number, "body")
            return
        for name in _UNFIT:
            if body.get(name) is not None:
                message = f"'{name}' is not supported by the Batch API for image requests."
                found.wrong("unsupported_parameter", message, number, f"body.{name}")
        self._model(body.get("model"), number, found)
        found.tokens += self._counted(body)

    def _model(self, model: object, number: int, found: Checked) -> None:
        if not isinstance(model, str) or self.family(model) in ("", _UNBATCHED):
            message = f"The provided model '{model}' is not supported by the Batch API."
            found.wrong("model_not_found", message, number, "body.model")
        elif found.model not in (None, model):
            message = (
                f"The provided model '{model}' does not match that of the batch, '{found.model}'."
                " Each batch must only contain requests to a single model."
            )
            found.wrong("mismatched_model", message, number, "body.model")
        else:
            found.model = model

    def _counted(self, body: Mapping[str, Any]) -> int:
        """Input tokens, of which a reference counts as if it were 1024 pixels each way."""
        images = body.get("images")
        each = tokens.input_tokens(1024, 1024, self.family(str(body.get("model"))))
        return tokens.text_tokens(str(body.get("prompt"))) + (each * len(images) if isinstance(images, list) else 0)


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and bytes of those that are not blank."""
    offset = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if raw.strip():
                yield number, offset, raw
            offset += len(raw)
