"""YAML is read strictly, and every complaint names its place."""

import time

import pytest
import yaml

from batchgen.document import DEPTH_MOST, decode, parse
from batchgen.errors import ManifestError


def refused(text: str, name: str = "x.yaml") -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse(text, name)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16:9", "16:9"),
        ("1:30:00", "1:30:00"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("True", "True"),
        ("012", "012"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("+1", "+1"),
        ("2026-01-01", "2026-01-01"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 30, "9" * 30),
        ("'1'", "1"),
        ('"true"', "true"),
        ("Null", "Null"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("0", 0),
        ("-3", -3),
        ("1.50", 1.5),
        (".5", 0.5),
        ("1e5", 100_000.0),
    ],
)
def test_u1_only_plain_numbers_flags_and_nulls_are_not_text(text: str, value: object) -> None:
    found = parse(f"key: {text}", "x.yaml").value
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


def test_without_the_c_library_all_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: 16:9\nb: [狐, 🦊 # c\n  , 'x']\nc: |\n  A\n  B\n"
    fast = parse(text, "x.yaml")
    monkeypatch.setattr("batchgen.document._LOADER", yaml.SafeLoader)
    assert parse(text, "x.yaml") == fast
    assert "a quote is opened here and never closed" in refused('- "A fox\n- b')[0]
    assert "nested deeper than 32 levels" in refused("[" * 5_000)[0]


def test_keys_are_text() -> None:
    assert parse("no: 1\n1: 2\n1.0: 3\n~: 4\n", "x.yaml").value == {"no": 1, "1": 2, "1.0": 3, "~": 4}


def test_what_is_not_text_keeps_its_spelling() -> None:
    document = parse("models: [1.50, gpt, true]", "x.yaml")
    assert document.text(("models", 0), 1.5) == "1.50"
    assert document.text(("models", 1), "gpt") == "gpt"
    assert document.text(("models", 2), True) == "true"


def test_every_value_and_key_has_a_place() -> None:
    document = parse("name: a\nmatrix:\n  size: [1024x1024,\n    auto]\n", "jobs/x.yaml")
    assert document.where(("matrix", "size", 1)) == "jobs/x.yaml:4:5"
    assert document.where(("matrix", "size"), key=True) == "jobs/x.yaml:3:3"
    assert document.line_col(("name",)) == (1, 7)


def test_what_is_not_there_is_where_it_should_be() -> None:
    document = parse("limits:\n  budget: 5\n", "x.yaml")
    assert document.where(("limits", "images")) == document.where(("limits",)) == "x.yaml:2:3"


def test_columns_count_characters() -> None:
    assert parse("a: [狐狸, 🦊, c]", "x.yaml").line_col(("a", 2)) == (1, 12)


def test_u2_a_duplicate_key_names_both_lines() -> None:
    assert refused("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
        "x.yaml:4:3: the key 'c' stands twice: in line 3 and in line 4",
        "x.yaml:5:1: the key 'a' stands twice: in line 1 and in line 5",
    ]


def test_u3_aliases_are_refused_so_that_no_bomb_goes_off() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    assert refused(bomb) == [
        "x.yaml:1:4: anchors (&name) are not allowed: write the values out; text that begins with & needs quotes"
    ]
    assert refused("a: *b")[0].startswith("x.yaml:1:4: aliases (*name) are not allowed")


def test_aliases_serve_files_of_our_own() -> None:
    assert parse("a: &x {b: 1}\nc: *x\n", "x.yaml", aliases=True).value == {"a": {"b": 1}, "c": {"b": 1}}


def test_merge_keys_are_refused() -> None:
    assert refused("a:\n  <<: {b: 1}\n") == ["x.yaml:2:3: merge keys (<<) are not allowed: write the values out"]


@pytest.mark.parametrize("bracket", ["[", "{a: ", "- ", "? "])
def test_u4_five_thousand_brackets_fail_fast(bracket: str) -> None:
    start = time.perf_counter()
    problems = refused(bracket * 5_000)
    assert time.perf_counter() - start < 0.5
    assert "nested deeper than 32 levels" in problems[0] or "cannot be a key" in problems[0]


def test_nesting_is_allowed_up_to_its_bound() -> None:
    assert parse("[" * DEPTH_MOST + "]" * DEPTH_MOST, "x.yaml").value


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [true]", "!include /etc/passwd", "!!str 1", "! x"])
def test_u5_tags_are_refused(tag: str) -> None:
    problems = refused(f"a: {tag}")
    assert problems[0].startswith("x.yaml:1:4: tags (")
    assert "not allowed" in problems[0]


def test_u6_fifty_thousand_prompts_are_read_in_under_two_seconds() -> None:
    text = "prompts:\n" + "".join(f"  - A fox in the snow, number {n}, golden hour\n" for n in range(50_000))
    start = time.perf_counter()
    document = parse(text, "x.yaml")
    assert time.perf_counter() - start < 2
    assert document.where(("prompts", 49_999)) == "x.yaml:50001:5"


def test_u6_a_file_has_at_most_64_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.document.BYTES_MOST", 100)
    assert "larger than 64 MiB" in refused("a: " + "x" * 100)[0]
    assert "larger than 64 MiB" in refused("a: " + "狐" * 40)[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: b\nc: x\0y", "x.yaml:2:5: holds the character U+0000, which cannot be seen"),
        ("a: x\ud800y", "x.yaml:1:5: holds the character U+D800, which cannot be seen"),
        ("a: b # \u202eevil", "x.yaml:1:8: holds the character U+202E, which cannot be seen"),
        ("a: \u2067b", "x.yaml:1:4: holds the character U+2067, which cannot be seen"),
        ("a: \x1b[31m", "x.yaml:1:4: holds the character U+001B, which cannot be seen"),
        ('a: "x\\0y"', "x.yaml:1:4: holds the character U+0000, which cannot be seen"),
        ('a: "x\\u202ey"', "x.yaml:1:4: holds the character U+202E, which cannot be seen"),
    ],
)
def test_u8_characters_that_cannot_be_seen_are_refused(text: str, says: str) -> None:
    assert refused(text) == [says]


def test_u8_an_escaped_surrogate_is_refused() -> None:
    assert refused('a: "\\ud800"')[0].startswith("x.yaml:1:")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:\n\tb: 1", "2:1: not valid YAML: indent with spaces (2 for each level), not with tabs"),
        ("- A sign: No: entry", "1:13: not valid YAML: there is a colon in text without quotes, or a line is"),
        ("a: 1\n  b: 2", "2:4: not valid YAML: there is a colon in text without quotes, or a line is indented too far"),
        ('- "A fox\n- b', "1:3: not valid YAML: a quote is opened here and never closed"),
        ("- 'A fox\n- b", "1:3: not valid YAML: a quote is opened here and never closed"),
        ('- "A fox" in snow', "1:11: not valid YAML: check the indentation; text that begins with a quote"),
        ("- 'it's'", "1:7: not valid YAML: check the indentation; text that begins with a quote"),
        (
            '- "C:\\quiet"',
            '1:6: not valid YAML: inside "double" quotes a backslash is written \\\\; or use single quotes',
        ),
        ("- @home", "1:3: not valid YAML: text that begins with @ needs quotes"),
        ("- 50% off\n- % off", "2:3: not valid YAML: text that begins with % needs quotes"),
        ("- *bold* text", "1:8: not valid YAML: text that begins with * needs quotes"),
        ("a: [1, 2\nb: 3", "not valid YAML: a bracket or brace is not closed; text that begins with [ or {"),
        (
            "a: {{ animal }} in snow",
            '1:5: text that begins with {{ needs quotes: a: "{{ animal }} …"',
        ),
        ("- {{ animal }}", '1:4: text that begins with {{ needs quotes: - "{{ animal }}"'),
        ("name: a\nmodel:x\n", "2:1: not valid YAML: put a space behind the colon: model: x"),
        ("a: 1\n\u00a0 b: 2", "2:1: the key holds the character U+00A0, which cannot be seen: write it anew"),
        ("a:\n  - b\n c: d", "3:2: not valid YAML: check the indentation"),
        ("a: 1\n---\nb: 2", "2:1: a second document begins here: one file holds one"),
    ],
)
def test_a_mistake_of_yaml_comes_with_its_place_and_a_hint(text: str, says: str) -> None:
    assert says in refused(text)[0]


def test_a_comment_behind_text_without_quotes_is_a_doubt() -> None:
    document = parse("- A shirt with #1 on it\n- '#1'  # fine\n- C#\n- a:#b\n", "x.yaml")
    assert document.value == ["A shirt with", "#1", "C#", "a:#b"]
    assert list(document.doubts) == [(0,)]


def test_behind_a_word_a_comment_is_no_doubt_but_a_number_is() -> None:
    document = parse("a: low # cheap\nb: low ## cheap\nc: item #2\n", "x.yaml")
    assert [bool(document.doubt((name,))) for name in "abc"] == [True] * 3
    assert [bool(document.doubt((name,), word=True)) for name in "abc"] == [False, False, True]
    assert document.doubt(("c",)).startswith("'#2' would be lost as a comment")


def test_an_override_brings_its_own_doubts_and_takes_those_that_it_replaces() -> None:
    document = parse("a: x #1\nb: y #2\n", "x.yaml").override(("a",), parse("z", "--set a"))
    assert list(document.doubts) == [("b",)]
    assert (document.line(("a",)), document.line(("b",))) == ("--set a", "line 2")
    assert list(document.override(("a",), parse("z #3", "--set a")).doubts) == [("b",), ("a",)]


def test_a_list_item_that_became_part_of_the_one_before_is_a_doubt() -> None:
    document = parse("- A cat\n  - A dog\n- A fox -\n  red\n", "x.yaml")
    assert document.value == ["A cat - A dog", "A fox - red"]
    assert list(document.doubts) == [(0,)]


@pytest.mark.parametrize("text", ["a: 1\r\nb: [2,\r\n 3]\r\n", "\ufeffa: 1\nb: [2,\n 3]\n"])
def test_u13_crlf_and_a_byte_order_mark_change_nothing(text: str) -> None:
    document = parse(text, "x.yaml")
    assert document.value == {"a": 1, "b": [2, 3]}
    assert document.line_col(("b", 1)) == (3, 2)


def test_u13_utf16_and_binary_files_are_named_for_what_they_are() -> None:
    with pytest.raises(ManifestError, match=r"x.yaml:1:1: the file is UTF-16: save it as UTF-8"):
        decode("a: 1".encode("utf-16"), "x.yaml")
    with pytest.raises(ManifestError, match=r"x.yaml:2:4: the file is not UTF-8 text"):
        decode(b"a: 1\nb: \xff\xd8", "x.yaml")


def test_u13_an_empty_file_is_nothing() -> None:
    assert parse("", "x.yaml").value is None
    assert parse("# only a comment\n", "x.yaml").value is None


def test_an_override_replaces_a_value_and_speaks_for_it() -> None:
    document = parse("limits: {budget: 5, images: 3}\nname: 1.0\n", "x.yaml")
    changed = document.override(("limits", "budget"), parse("1.50", "--set limits.budget"))
    assert changed.value == {"limits": {"budget": 1.5, "images": 3}, "name": 1.0}
    assert changed.text(("limits", "budget"), 1.5) == "1.50"
    assert changed.where(("limits", "budget")) == "--set limits.budget"
    assert changed.where(("limits", "images")) == "x.yaml:1:29"
    assert document.value == {"limits": {"budget": 5, "images": 3}, "name": 1.0}
