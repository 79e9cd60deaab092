"""What exports are made of: splits by share, columns of what was asked for, and the look for signed provenance."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchgen import columns, provenance, splits
from batchgen.columns import Type
from batchgen.task import Operation, Variant, prompt_digest


def variant(model: str = "m", axes: dict[str, object] | None = None, **params: object) -> Variant:
    return Variant("p", model, Operation.GENERATE, tuple(sorted(params.items())), tuple((axes or {}).items()))


def asked(*variants: Variant) -> tuple[dict[str, Type], list[tuple[columns.Cell, ...]]]:
    found = columns.asked(dict(enumerate(variants)), {"prompt", "width", "format"})
    return {each.name: each.type for each in found.columns}, list(found.cells.values())


def test_what_every_request_has_as_a_number_is_a_number_and_all_else_is_text() -> None:
    kinds, cells = asked(
        variant(n=2, scale=2, hd=True, seed=7, size="1x1", extra=[1, {"b": None}]), variant(n=1, scale=2.5, hd=False)
    )
    assert kinds == {
        "n": Type.WHOLE, "scale": Type.NUMBER, "hd": Type.FLAG, "seed": Type.TEXT, "size": Type.TEXT, "extra": Type.TEXT
    }  # fmt: skip
    rows = [dict(zip(kinds, row, strict=True)) for row in cells]
    assert rows == [
        {"n": 2, "scale": 2.0, "hd": True, "seed": "7", "size": "1x1", "extra": '[1,{"b":null}]'},
        {"n": 1, "scale": 2.5, "hd": False, "seed": "", "size": "", "extra": ""},
    ]
    assert type(rows[0]["scale"]) is float


def test_a_name_that_is_taken_is_told_apart() -> None:
    kinds, _ = asked(variant(width=512, Format="png", stream=True))
    assert sorted(kinds) == ["asked_Format", "asked_width"]


def test_an_axis_is_a_column_where_it_says_more_than_its_parameter() -> None:
    kinds, cells = asked(
        variant("m1", {"target": "flare", "size": "1x1", "model": "m1"}, size="1x1"),
        variant("m2", {"target": "two", "size": "2x2", "model": "m2"}, size="2x2"),
    )
    assert kinds == {"size": Type.TEXT, "target": Type.TEXT}
    assert cells == [("1x1", "flare"), ("2x2", "two")]
    kinds, cells = asked(variant(axes={"quality": "best"}, quality="high"))
    assert cells == [("high", "best")]
    assert list(kinds) == ["quality", "axis_quality"]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=5), st.text())
def test_every_prompt_has_one_side(weights: list[int], prompt: str) -> None:
    total = 1 << (sum(weights) - 1).bit_length()
    shares = [weight / total for weight in weights]
    shares[0] += 1 - sum(shares)
    parts = splits.parse(",".join(f"s{n}={share:.12f}" for n, share in enumerate(shares)))
    assert 0 <= splits.side(prompt_digest(prompt.encode("utf-8", "replace").decode()), parts) < len(parts)
    assert splits.side(b"\xff" * 16, parts) == len(parts) - 1
    assert splits.side(bytes(16), parts) == 0


def test_shares_come_true() -> None:
    parts = splits.parse("train=0.9,val=0.1")
    sides = [splits.side(prompt_digest(f"otter {number}"), parts) for number in range(20_000)]
    assert 0.09 < sum(sides) / len(sides) < 0.11


def picture(format: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(out, format)
    return out.getvalue()


def signed(format: str) -> bytes:
    data, manifest = picture(format), b"jumb\0\0\0\x19jumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0"
    if format == "PNG":
        chunk = struct.pack(">I", len(manifest)) + b"caBX" + manifest
        return data[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[33:]
    if format == "JPEG":
        return data[:2] + b"\xff\xeb" + struct.pack(">H", 2 + len(manifest)) + manifest + data[2:]
    body = data[8:] + b"C2PA" + struct.pack("<I", len(manifest)) + manifest + b"\0" * (len(manifest) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_manifest_is_found_where_it_stands_and_nowhere_else(format: str) -> None:
    assert provenance.has_c2pa(io.BytesIO(signed(format)))
    assert not provenance.has_c2pa(io.BytesIO(picture(format)))
    assert not provenance.has_c2pa(io.BytesIO(picture(format) + b"caBX C2PA c2pa"))


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"\xff\xd8", b"GIF89a"])
)
def test_whatever_the_bytes_are_the_look_ends(data: bytes, start: bytes) -> None:
    assert provenance.has_c2pa(io.BytesIO(start + data)) in (True, False)
