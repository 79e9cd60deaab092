"""Text with variables: the only door to jinja2."""

from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
from jinja2 import meta
from jinja2.sandbox import SandboxedEnvironment

_ENVIRONMENT = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
_ENVIRONMENT.globals.clear()  # lipsum, range and their like: a column may have that name


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template and the names that it asks for."""

    compiled: jinja2.Template
    variables: frozenset[str]

    def render(self, variables: Mapping[str, object]) -> str:
        """The text; ValueError where that fails."""
        try:
            return self.compiled.render(variables)
        except (jinja2.TemplateError, ArithmeticError, TypeError, LookupError, AttributeError) as error:
            raise ValueError(f"the template fails: {error}") from None


def compile(text: str) -> Template:
    """ValueError where the text is no template."""
    try:
        tree = _ENVIRONMENT.parse(text)
        return Template(_ENVIRONMENT.from_string(tree), frozenset(meta.find_undeclared_variables(tree)))
    except jinja2.TemplateError as error:
        raise ValueError(f"not a valid template: {error}") from None
