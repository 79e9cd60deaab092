"""The variables of a source's templates: what they may ask for, and what they do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from batchgen import template
from batchgen.document import Loc
from batchgen.problems import Problems, nearest
from batchgen.readers import Feed


def known(feed: Feed | None, vars: Mapping[str, object]) -> frozenset[str] | None:
    """The variables of a source's rows; None where only the file knows."""
    if feed is None:
        return frozenset(vars)
    return frozenset({"line"}) if feed.format == "txt" else None


def asked(text: str) -> frozenset[str]:
    """What a template asks for; ValueError, in words for its writer, where it is none."""
    try:
        return template.compile(text).variables
    except ValueError as error:
        if text.count("{{") > text.count("}}"):
            raise ValueError("{{ is opened and not closed with }}") from None
        if "end of print statement" in str(error):
            raise ValueError("between {{ and }} stands one name, without spaces: {{ product_name }}") from None
        raise


@dataclass(slots=True)
class Templates:
    """The templates of one source: what they may ask for (None: only the file knows), and what they do."""

    file: Feed | None
    known: frozenset[str] | None
    problems: Problems
    asked: set[str] = field(default_factory=set)
    sound: bool = True

    def read(self, text: object, loc: Loc) -> str | None:
        """A template's text, once it compiles and asks only for names that are known, as far as one knows them."""
        if text is None:
            return None
        spelled = self.problems.document.text(loc, text).strip()
        self.check(spelled, loc)
        return spelled

    def check(self, text: str, loc: Loc) -> None:
        if doubt := self.problems.document.doubt(loc):
            self.sound = False
            self.problems.add(loc, doubt)
        try:
            names = asked(text)
        except ValueError as error:
            self.sound = False
            self.problems.add(loc, str(error))
            return
        self.asked |= names
        for name in sorted(names - self.known) if self.known is not None else ():
            self.sound = False
            lines = ": a .txt file has one variable, {{ line }}" if self.file else ""
            self.problems.add(loc, f"{{{{ {name} }}}} is not defined{nearest(name, self.known or ()) or lines}")
