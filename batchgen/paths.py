"""Where a task's image goes: names that every file system takes, and that no two tasks share."""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from batchgen import template
from batchgen.errors import ManifestError
from batchgen.manifest import Manifest
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


class Paths(Protocol):
    """Names the tasks of one row: `paths.of(row)(variant's number, sample, key)`."""

    def of(self, row: Row) -> Callable[[int, int, str], str]: ...


def paths(manifest: Manifest, variants: Sequence[Variant]) -> Paths:
    """What the manifest wants its files to be called."""
    if manifest.output_path is None:
        return _Default(tuple(_label(variant) for variant in variants), manifest.samples > 1)
    same = tuple(_variables(manifest, variant) for variant in variants)
    return _Custom(template.compile(manifest.output_path), same)


@dataclass(frozen=True, slots=True)
class _Default:
    """A folder for every prompt; in it the values of the axes, the sample where there are several, and the key."""

    labels: tuple[str, ...]
    several: bool

    def of(self, row: Row) -> Callable[[int, int, str], str]:
        folder = slug(row.prompt)
        if self.several:
            return lambda variant, sample, key: f"{folder}/{self.labels[variant]}{sample}-{key}"
        return lambda variant, sample, key: f"{folder}/{self.labels[variant]}{key}"


@dataclass(frozen=True, slots=True)
class _Custom:
    """The manifest's template. A row's own names go before ours; the key is added where the template leaves it out."""

    template: template.Template
    variants: tuple[Mapping[str, object], ...]

    def of(self, row: Row) -> Callable[[int, int, str], str]:
        own = {name: _flat(row.variables[name]) for name in self.template.variables & row.variables.keys()}
        same = {"slug": slug(row.prompt), "number": row.number}

        def path(variant: int, sample: int, key: str) -> str:
            variables = {**self.variants[variant], **same, "sample": sample, "key": key, **own}
            try:
                return _safe(self.template.render(variables), key)
            except ValueError as error:
                raise ManifestError(f"{row.where}: output.path: {error}") from None

        return path


def _safe(text: str, key: str) -> str:
    text = text if key in text else f"{text}-{key}"
    return "/".join(component(part, key) for part in text.split("/") if part)


def _label(variant: Variant) -> str:
    values = "-".join(_flat(value) for _, value in variant.axes)
    return f"{cut(component(values), COMPONENT_BYTES // 2)}-" if values else ""


def _variables(manifest: Manifest, variant: Variant) -> Mapping[str, object]:
    known = {"name": manifest.name, "model": variant.model, "provider": variant.provider}
    return {name: _flat(value) for name, value in (*variant.params, *variant.axes, *known.items())}


def _flat(value: object) -> str:
    """A value as text that makes no folders: only the slashes of the template itself do."""
    text = value if isinstance(value, str) else canonical(value)
    return text.replace("/", "_").replace("\\", "_")
