"""Forms are read to the byte, and refused where they are none."""

import pytest

from batchgen.sandbox.multipart import Part, parts

KIND = "multipart/form-data; boundary=x"


def form(*pieces: bytes) -> bytes:
    return b"".join(b"--x\r\n" + piece + b"\r\n" for piece in pieces) + b"--x--\r\n"


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n--", b"-x", b"\x00\xff\r\n\r\n\n", b"\r", bytes(range(256)) * 9])
def test_bytes_come_out_as_they_went_in(data: bytes) -> None:
    head = b'Content-Disposition: form-data; name="a"; filename="a.png"\r\nContent-Type: image/PNG\r\n\r\n'
    again = b"content-disposition: form-data; name=b\r\n\r\n"
    assert parts(form(head + data), KIND) == [Part("a", "a.png", "image/png", data)]
    with pytest.raises(ValueError, match="no name"):
        parts(form(again + data), KIND)


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('name="a"', ""),
        ('name="a"; filename=""', ""),
        ('name="a"; filename="käfer.png"', "käfer.png"),
        ("name=\"a\"; filename*=utf-8''kafer.png", "kafer.png"),
    ],
)
def test_a_file_has_a_name(disposition: str, filename: str) -> None:
    (part,) = parts(form(f"Content-Disposition: form-data; {disposition}\r\n\r\nx".encode()), KIND)
    assert (part.name, part.filename) == ("a", filename)


@pytest.mark.parametrize("kind", ['multipart/form-data;boundary="x"', "Multipart/Form-Data; charset=utf-8; boundary=x"])
def test_a_boundary_is_found_however_it_is_written(kind: str) -> None:
    assert parts(b"--x--", kind) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", KIND),
        (b"preamble --x--", KIND),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nno end', KIND),
        (b"--xy--", KIND),
        (b"--x--", "multipart/form-data"),
        (form(b"no blank line"), KIND),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parts(body, kind)
