"""Where a task's image goes: names that every file system takes, and that no two tasks share."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from batchgen import template
from batchgen.errors import ManifestError
from batchgen.manifest import PATH_NAMES, Manifest
from batchgen.rows import Row
from batchgen.task import Variant, canonical

SLUG_BYTES = 60
COMPONENT_BYTES = 120

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u2028-\u202e\u2066-\u2069<>:"|?*/\\]+')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\.|$)", re.IGNORECASE)
_NOT_PLAIN = re.compile(r"[^a-z0-9]+")
_PLAIN_ENOUGH = 4 * SLUG_BYTES  # characters of a prompt that can still reach its slug


def slug(prompt: str) -> str:
    """A short name in lower case: letters, digits and hyphens of any script."""
    start = prompt[:_PLAIN_ENOUGH].lower()
    if start.isascii():
        name = _NOT_PLAIN.sub("-", start)
    else:
        start = unicodedata.normalize("NFC", start)
        name = re.sub("-+", "-", "".join(sign if _is_word(sign) else "-" for sign in start))
    name = cut(name.strip("-"), SLUG_BYTES).rstrip("-") or "prompt"
    return f"{name}-" if _RESERVED.match(name) else name


def _is_word(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "LMN"  # marks too: much of Hindi and Thai is made of them


def cut(text: str, most: int) -> str:
    """The beginning of a text, at most so many bytes of UTF-8."""
    return text if len(text) * 4 <= most else text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def component(text: str, key: str = "") -> str:
    """One name of a path, made safe. What is too long is cut around `key`, never within it."""
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", text)).lstrip(". ").rstrip(". ")
    name = f"_{name}" if _RESERVED.match(name) else name
    head, found, tail = name.partition(key) if key else (name, "", "")
    tail = cut(tail, COMPONENT_BYTES - len(found))
    head = cut(head, COMPONENT_BYTES - len(found) - len(tail.encode()))
    return (head + found + tail).rstrip(". ") or "_"


class Namer(Protocol):
    """Names the files of one variant: `namer.path(row's part, sample, key)`."""

    def path(self, row: object, sample: int, key: str) -> str: ...


class Paths(Protocol):
    """What the manifest wants its files to be called: what a row says of it, and what a variant does."""

    def row(self, row: Row) -> object: ...

    def variant(self, variant: Variant) -> Namer: ...


def paths(manifest: Manifest) -> Paths:
    """As the manifest says, or else a folder for every prompt."""
    return _Default(manifest.samples > 1) if manifest.output_path is None else _Custom.of(manifest)


@dataclass(frozen=True, slots=True)
class _Default:
    """A folder for every row, called by its id or its prompt; in it the values of the axes, the sample, the key."""

    several: bool

    def row(self, row: Row) -> object:
        return component(row.id) if row.id else slug(row.prompt)

    def variant(self, variant: Variant) -> Namer:
        return _Plain(_label(variant), self.several)


@dataclass(frozen=True, slots=True)
class _Plain:
    label: str
    several: bool

    def path(self, row: object, sample: int, key: str) -> str:
        return f"{row}/{self.label}{sample}-{key}" if self.several else f"{row}/{self.label}{key}"


@dataclass(frozen=True, slots=True)
class _Custom:
    """The manifest's template. A row's own names go before ours; the key is added where the template leaves it out."""

    template: template.Template
    defaults: Mapping[str, object]
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> "_Custom":
        compiled = template.compile(manifest.output_path or "")
        names = compiled.variables & (manifest.path_names - PATH_NAMES)
        return cls(compiled, dict.fromkeys(names, "default"), manifest.name)

    def row(self, row: Row) -> object:
        own = {name: _flat(row.variables[name]) for name in self.template.variables & row.variables.keys()}
        name = slug(row.prompt)
        return row.where, {"slug": name, "number": row.number, "id": _flat(row.id) or name}, own

    def variant(self, variant: Variant) -> Namer:
        known = {"name": self.name, "model": variant.model, "provider": variant.provider}
        found = {name: _flat(value) for name, value in (*variant.params, *variant.axes, *known.items())}
        return _Filled(self.template, {**self.defaults, **found})


@dataclass(frozen=True, slots=True)
class _Filled:
    template: template.Template
    same: Mapping[str, object]

    def path(self, row: object, sample: int, key: str) -> str:
        assert isinstance(row, tuple)
        where, names, own = row
        try:
            return _safe(self.template.render({**self.same, **names, "sample": sample, "key": key, **own}), key)
        except ValueError as error:
            raise ManifestError(f"{where}: output.path: {error}") from None


def _safe(text: str, key: str) -> str:
    text = text if key in text else f"{text}-{key}"
    return "/".join(component(part, key) for part in text.split("/") if part)


def _label(variant: Variant) -> str:
    values = "-".join(_flat(value) for _, value in variant.axes)
    return f"{cut(component(values), COMPONENT_BYTES // 2)}-" if values else ""


def _flat(value: object) -> str:
    """A value as text that makes no folders: only the slashes of the template itself do."""
    text = value if isinstance(value, str) else canonical(value)
    return text.replace("/", "_").replace("\\", "_")
