"""Text with variables: the only door to jinja2."""

from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import SandboxedEnvironment

_ENVIRONMENT = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
_ENVIRONMENT.globals.clear()  # lipsum, range and their like: a column may have that name


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template and the names that it asks for.

    `parts` are its pieces of text and names in turn, where it has nothing else: a million rows are joined, not run.
    """

    compiled: jinja2.Template
    variables: frozenset[str]
    parts: tuple[tuple[str, str], ...] | None

    def render(self, variables: Mapping[str, object]) -> str:
        """The text; ValueError where that fails."""
        try:
            if self.parts is not None:
                return "".join([f"{text}{variables[name] if name else ''}" for text, name in self.parts])
            return self.compiled.render(variables)
        except (jinja2.TemplateError, ArithmeticError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"the template fails: {error}") from None


def compile(text: str) -> Template:
    """ValueError where the text is no template."""
    try:
        tree = _ENVIRONMENT.parse(text)
        return Template(_ENVIRONMENT.from_string(tree), frozenset(meta.find_undeclared_variables(tree)), _parts(tree))
    except jinja2.TemplateError as error:
        raise ValueError(f"not a valid template: {error}") from None


def _parts(tree: nodes.Template) -> tuple[tuple[str, str], ...] | None:
    """Text and the name behind it, over and over; None where the template computes anything."""
    found: list[tuple[str, str]] = []
    for output in tree.body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                found.append((node.data, ""))
            elif isinstance(node, nodes.Name):
                found.append(("", node.name))
            else:
                return None
    return tuple(found)
