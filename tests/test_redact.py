"""What a server says of a key that it was sent is told without it, in whatever spelling it comes."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.redact import LEAST, censor, redact

SECRET = "sk-proj-Vq7/T3m+Zk9=Xw2_Rb5-Lc8NdYfHg4Js1Pa6Ue0"
SPELLINGS = {
    "raw": SECRET,
    "percent-encoded": quote(SECRET, safe=""),
    "percent-encoded in full": "".join(f"%{ord(letter):02x}" for letter in SECRET),
    "percent-encoded twice": quote(quote(SECRET, safe=""), safe=""),
    "JSON-escaped": "".join(f"\\u{ord(letter):04X}" for letter in SECRET),
    "JSON in JSON": "".join(f"\\\\u{ord(letter):04x}" for letter in SECRET),
    "HTML-escaped": "".join(f"&#x{ord(letter):02x};" for letter in SECRET),
    "in small letters": SECRET.lower(),
    "its first half": SECRET[: len(SECRET) // 2],
    "its second half": SECRET[len(SECRET) // 2 :],
    "its middle": SECRET[9:31],
    "a URL of its base64": quote(base64.b64encode(SECRET.encode()).decode(), safe=""),
}
LETTERS = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.mark.parametrize("name", SPELLINGS)
def test_z3_whatever_its_spelling_a_key_becomes_one_word(name: str) -> None:
    assert redact(f"bad key '{SPELLINGS[name]}', ask again", [SECRET]) == "bad key '[key]', ask again"


@given(before=st.binary(max_size=20), after=st.binary(max_size=20), data=st.data())
def test_z3_base64_of_any_text_shows_no_piece_of_the_key_inside_of_it(
    before: bytes, after: bytes, data: st.DataObject
) -> None:
    encode = data.draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
    text = encode(before + SECRET.encode() + after).decode()
    told = redact(text, [SECRET])
    assert told.count("[key]") == 1
    kept = told.split("[key]")
    assert (text.startswith(kept[0]), text.endswith(kept[1])) == (True, True)
    assert len(kept[0]) + len(kept[1]) <= (len(before) + len(after)) * 4 / 3 + 8, "only what stood beside it is left"


@given(start=st.integers(0, len(SECRET) - LEAST), size=st.integers(LEAST, len(SECRET)), around=LETTERS)
def test_z3_no_run_of_its_letters_is_left(start: int, size: int, around: str) -> None:
    told = redact(f"{around} <{SECRET[start : start + size]}> {around}", [SECRET])
    assert f"{around} <[key]> {around}" == told


@given(LETTERS)
def test_what_holds_no_key_is_told_as_it_is(text: str) -> None:
    assert redact(text, [SECRET]) == text
    assert censor(text.encode(), [SECRET]) == text.encode()


@pytest.mark.parametrize("text", ["100%25 sure", "%41%42", "\\u0041", "&#x41;", "sk-proj"])
def test_what_is_only_encoded_is_told_as_it_is(text: str) -> None:
    assert redact(text, [SECRET]) == text


def test_every_secret_is_taken_out_and_short_ones_whole() -> None:
    assert redact("org-1234567 and abcdefghi", ["abcdefghi", "org-1234567"]) == "[key] and [key]"
    assert redact("anything", []) == "anything"


@pytest.mark.parametrize("name", ["raw", "its first half", "its second half"])
def test_z3_a_body_that_is_kept_holds_no_half_of_it(name: str) -> None:
    assert censor(f"<{SPELLINGS[name]}>\xff".encode("latin-1"), [SECRET]) == b"<[key]>\xff"


@pytest.mark.parametrize("before", [b"", b"x", b"xy"])
def test_z3_a_body_that_is_kept_holds_no_base64_of_it(before: bytes) -> None:
    body = base64.b64encode(before + SECRET.encode())
    told = censor(body, [SECRET])
    assert b"[key]" in told
    assert len(told) <= len(b"[key]") + 8, "but for the letters at its edges"
