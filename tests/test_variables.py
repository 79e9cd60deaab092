"""What a template may ask for, and what is said of one that cannot be read."""

import re
from pathlib import Path

import pytest

from batchgen import document, variables
from batchgen.problems import Problems
from batchgen.readers import feed
from batchgen.variables import Templates


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("plain, {name} and $5", set()),
        ("An {{ style }} painting of a {{ animal }}", {"style", "animal"}),
        ("{{ a }} and {{ a | upper }}, {{ 'b' }}", {"a"}),
        ("{% if big %}A large {% endif %}{{ animal }}", {"big", "animal"}),
        ("{% for n in names %}{{ n }}{% endfor %}", {"names"}),
        ("{# {{ nothing }} #}", set()),
    ],
)
def test_a_template_asks_for_the_names_in_its_braces(text: str, names: set[str]) -> None:
    assert variables.asked(text) == names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A {{ animal", "{{ is opened and not closed with }}"),
        ("{{ a }} {{ b", "{{ is opened and not closed with }}"),
        ("{{ product name }}", "between {{ and }} stands one name, without spaces: {{ product_name }}"),
    ],
)
def test_a_template_that_is_none_is_told_in_words_for_its_writer(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        variables.asked(text)


def test_what_rows_know_is_what_their_source_says_or_what_only_the_file_knows() -> None:
    assert variables.known(None, {"a": [], "b": []}) == frozenset({"a", "b"})
    assert variables.known(feed("p.txt", Path(), ""), {}) == frozenset({"line"})
    assert variables.known(feed("p.csv", Path(), ""), {}) is None


def told(text: str, known: frozenset[str] | None, file: str = "") -> tuple[list[str], Templates]:
    """What is said of a template at `prompt`, and the reader that has read it."""
    tree = document.parse(f"prompt: '{text}'\n", "x.yaml")
    problems = Problems(tree)
    templates = Templates(feed(file, Path(), "") if file else None, known, problems)
    templates.read(text, ("prompt",))
    return [says for _, _, says in problems.found], templates


def test_a_name_that_is_not_known_is_told_with_the_nearest() -> None:
    says, templates = told("A {{ animl }}", frozenset({"animal"}))
    assert ["{{ animl }} is not defined (did you mean animal?)" in each for each in says] == [True]
    assert (templates.asked, templates.sound) == ({"animl"}, False)


def test_a_text_file_has_one_variable() -> None:
    says, _ = told("A {{ animal }}", frozenset({"line"}), "p.txt")
    assert says[0].endswith("{{ animal }} is not defined: a .txt file has one variable, {{ line }}")


def test_what_only_the_file_knows_is_not_judged_here() -> None:
    says, templates = told("A {{ whatever }}", None, "p.csv")
    assert (says, templates.asked, templates.sound) == ([], {"whatever"}, True)
