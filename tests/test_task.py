"""A task's key: frozen for good, and made of what the user asked for only."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.task import Identity, Operation, Params, Variant, canonical

SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PLAIN = Variant("openai", "gpt-image-2", Operation.GENERATE, (), ())
RICH = replace(PLAIN, params=(("background", "auto"), ("n", 3), ("quality", "low"), ("size", "1536x1024")))
EDIT = replace(PLAIN, operation=Operation.EDIT, provider="openai@http://127.0.0.1:8080")


def identity(variant: Variant, prompt: str, sample: int, take: int, inputs: tuple[str, ...] = ()) -> str:
    return Identity(variant).key(canonical(prompt), sample, take, inputs)


@pytest.mark.parametrize(
    ("key", "variant", "prompt", "sample", "take", "inputs"),
    [
        ("oky4yh5ycvmaemfs", PLAIN, "A sea otter on its back", 1, 1, ()),
        ("ln6v65e4mprd5guq", RICH, "A sea otter on its back", 1, 1, ()),
        ("gwjxkwad2ljp2usk", RICH, "A sea otter on its back", 2, 1, ()),
        ("n5zdln3ieiafoiii", RICH, "A sea otter on its back", 1, 2, ()),
        ("cbtfz4n4tjfswlk7", RICH, 'Ein „Otter“ ❄ "\\ \n', 1, 1, ()),
        ("rhomcvukriedwcss", EDIT, "Remove the background", 1, 1, (SHA, SHA[::-1])),
        (
            "gxlds5nii2eljexb",
            replace(PLAIN, params=(("svg", {"model": "m", "effort": ["a", 1.5, None]}),)),
            "x",
            1,
            1,
            (),
        ),
    ],
)
def test_these_keys_are_frozen(
    key: str, variant: Variant, prompt: str, sample: int, take: int, inputs: tuple[str, ...]
) -> None:
    """Should one of them ever change, every finished job would be bought again."""
    assert identity(variant, prompt, sample, take, inputs) == key


@given(st.permutations(RICH.params))
def test_the_order_of_parameters_does_not_matter(params: list[tuple[str, object]]) -> None:
    assert identity(replace(RICH, params=tuple(params)), "x", 1, 1) == identity(RICH, "x", 1, 1)


def test_the_order_inside_a_parameter_does_not_matter() -> None:
    one, other = ((("svg", {"a": 1, "b": 2}),), (("svg", {"b": 2, "a": 1}),))
    assert identity(replace(PLAIN, params=one), "x", 1, 1) == identity(replace(PLAIN, params=other), "x", 1, 1)


@pytest.mark.parametrize("name", ["response_format", "stream", "partial_images", "user", "safety_identifier"])
def test_how_an_image_travels_does_not_matter(name: str) -> None:
    params: Params = (*RICH.params, (name, "anything"))
    assert identity(replace(RICH, params=params), "x", 1, 1) == identity(RICH, "x", 1, 1)


def test_axes_do_not_matter() -> None:
    assert identity(replace(RICH, axes=(("size", "1536x1024"),)), "x", 1, 1) == identity(RICH, "x", 1, 1)


def test_everything_that_was_asked_for_matters() -> None:
    asked = [
        (RICH, "x", 1, 1, ()),
        (replace(RICH, provider="aimlapi"), "x", 1, 1, ()),
        (replace(RICH, model="gpt-image-2.5"), "x", 1, 1, ()),
        (replace(RICH, operation=Operation.EDIT), "x", 1, 1, ()),
        (replace(RICH, params=(*RICH.params, ("moderation", "low"))), "x", 1, 1, ()),
        (RICH, "x ", 1, 1, ()),
        (RICH, "x", 2, 1, ()),
        (RICH, "x", 1, 2, ()),
        (RICH, "x", 1, 1, (SHA,)),
        (RICH, "x", 1, 1, (SHA, SHA[::-1])),
        (RICH, "x", 1, 1, (SHA[::-1], SHA)),
    ]
    assert len({identity(*each) for each in asked}) == len(asked)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_key_is_16_letters_and_digits_that_every_file_system_tells_apart(prompt: str, sample: int, take: int) -> None:
    key = identity(PLAIN, prompt, sample, take)
    assert len(key) == 16
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_what_json_cannot_say_has_no_canonical_form() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})


@pytest.mark.parametrize(("value", "images"), [(None, 1), (1, 1), (4, 4), ("4", 1)])
def test_a_request_asks_for_n_images(value: object, images: int) -> None:
    params = () if value is None else (("n", value),)
    assert replace(PLAIN, params=params).images == images
