"""Images to edit and their masks: refused before anything is sent, known by their content, sent as they were planned."""
# ruff: noqa: E501 (a mistake and its message stand in one line)

import hashlib
import io
import json
import signal
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import PIL.Image
import pytest
from conftest import Start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ImageOps
from world import KEY_ENV, OTTER, World, environment, eventually

from batchgen import cli, inputs, manifest, offer
from batchgen.errors import Rejected
from batchgen.expand import tasks
from batchgen.inputs import Gallery
from batchgen.job import Job, Order
from batchgen.manifest import Setup
from batchgen.rows import rows
from batchgen.task import Identity, Input, Kind, Task, canonical

ORIENTATION = 0x0112
RIGHT = 6  # turn it to the right to see it
SIDE = 64
MAGIC = b"\x89PNG\r\n\x1a\n"


# files


def photo(size: tuple[int, int] = (SIDE, SIDE), kind: str = "PNG", turn: int = 0, shade: int = 90) -> bytes:
    out, exif = io.BytesIO(), PIL.Image.Exif()
    if turn:
        exif[ORIENTATION] = turn
    PIL.Image.new("RGB", size, (shade, 120, 60)).save(out, kind, exif=exif)
    return out.getvalue()


def mask(size: tuple[int, int] = (SIDE, SIDE), hole: bool = True) -> bytes:
    """Black, and where there is a hole, its left half is transparent."""
    out, image = io.BytesIO(), PIL.Image.new("RGBA", size, (0, 0, 0, 255))
    if hole:
        image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    image.save(out, "PNG")
    return out.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def padded(data: bytes, size: int) -> bytes:
    """The same picture, with a chunk of zeros before its end."""
    end = chunk(b"IEND")
    return data.removesuffix(end) + chunk(b"zeRo", bytes(size)) + end


FILES: Mapping[str, Callable[[], bytes]] = {
    "a.png": photo,
    "b.png": lambda: photo(shade=91),
    "wide.png": lambda: photo((96, SIDE)),
    "turned.jpg": lambda: photo((96, SIDE), "JPEG", RIGHT),  # 64 wide, 96 high as one sees it
    "a.gif": lambda: photo(kind="GIF"),
    "note.png": lambda: b"no picture at all",
    "empty.png": lambda: b"",
    "cut.png": lambda: photo()[:-30],
    "vast.png": lambda: MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)) + chunk(b"IDAT"),
    "heavy.png": lambda: padded(photo(), 60_000_000),
    "big.png": lambda: padded(photo(), 16_000_000),
    "heavy-mask.png": lambda: padded(mask(), 4 * 2**20),
    "hole.png": mask,
    "tall-hole.png": lambda: mask((SIDE, 96)),
    "wide-hole.png": lambda: mask((96, SIDE)),
    "small-hole.png": lambda: mask((32, 32)),
    "hole.webp": lambda: recoded(mask(), "WEBP"),
    "opaque.png": lambda: mask(hole=False),
    "black.jpg": lambda: encoded(PIL.Image.new("L", (SIDE, SIDE), 0), "JPEG"),
    "white.jpg": lambda: encoded(PIL.Image.new("L", (SIDE, SIDE), 255), "JPEG"),
}


def encoded(image: PIL.Image.Image, kind: str = "PNG", **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def recoded(data: bytes, kind: str) -> bytes:
    return encoded(PIL.Image.open(io.BytesIO(data)), kind, lossless=True)


def lay_out(folder: Path, text: str) -> None:
    """The files that a text names, and a folder."""
    (folder / "folder.png").mkdir(exist_ok=True)
    for name, made in FILES.items():
        if name in text:
            (folder / name).write_bytes(made())


# refused


@dataclass(frozen=True, slots=True)
class Wrong:
    """A manifest of one mistake, from its fourth line on, for the sandbox in that dialect; and what is said of it.

    `csv` are the rows of rows.csv.
    """

    name: str
    dialect: str
    text: str
    says: str
    csv: str = ""
    model: str = "gpt-image-2"


EDIT = "prompts: [{prompt: A, operation: edit, images: [%s]%s}]\n"
ROWS = "prompts: [{file: rows.csv, operation: edit, images: ['{{ image }}'], mask: '{{ mask }}'}]\n"

WRONG = (
    Wrong("n", "openai", "prompts: [A]\nrequest: {n: 11}\n", "otters.yaml:5:14: request.n: 11 is more than 10"),
    Wrong("size", "openai", "prompts: [A]\nrequest: {size: 1000x1000}\n", "otters.yaml:5:17: request.size: gpt-image-2 does not paint 1000x1000: width and height must be multiples of 16"),
    Wrong("size-of-another-model", "openai", "prompts: [A]\nrequest: {size: 2048x2048}\n", "otters.yaml:5:17: request.size: '2048x2048' is not one of auto, 1024x1024, 1536x1024, 1024x1536: the sizes of gpt-image-1.5", model="gpt-image-1.5"),
    Wrong("long-prompt", "openai", "prompts: [file: rows.csv]\n", "rows.csv:3: the prompt has 32,001 characters, and pretend takes at most 32,000", csv=f"prompt\nA\n{'x' * 32_001}\n"),
    Wrong("transparent-jpeg", "openai", "prompts: [A]\nrequest: {background: transparent, output_format: jpeg}\n", "otters.yaml:5:23: request.background: a transparent background needs output_format png or webp: output_format is jpeg at line 5"),
    Wrong("compressed-png", "openai", "prompts: [A]\nrequest: {output_compression: 50, output_format: png}\n", "otters.yaml:5:31: request.output_compression: output_compression is for jpeg and webp only: output_format is png at line 5"),
    Wrong("partials", "openai", "prompts: [A]\nrequest: {partial_images: 2}\n", "otters.yaml:5:27: request.partial_images: partial_images needs stream: true: set stream to true"),
    Wrong("streams", "openai", "prompts: [A]\nrequest: {stream: true, n: 2}\n", "otters.yaml:5:19: request.stream: nobody has said how several images are streamed and billed: n must be 1: n is 2 at line 5"),
    Wrong("fidelity", "openai", EDIT % ("a.png", ", input_fidelity: high"), "otters.yaml:4:73: prompts.0.input_fidelity: gpt-image-2 has no input_fidelity"),
    Wrong("fidelity-of-nothing", "openai", "prompts: [A]\nrequest: {input_fidelity: high}\n", "otters.yaml:5:27: request.input_fidelity: input_fidelity is for edits only: operation is generate at line 4", model="gpt-image-1.5"),
    Wrong("match-nothing", "openai", "prompts: [A]\nrequest: {size: match}\n", "otters.yaml:5:17: request.size: size: match needs an image to match: operation edit or vary"),
    Wrong("match-a-link", "openai", EDIT % ("'https://a.example/a.png', b.png", ", size: match"), "otters.yaml:4:11: size: match needs a file as the first image: nobody knows how large another is"),
    Wrong("match-a-stranger", "openai", EDIT % ("a.png", ", size: match"), "otters.yaml:4:63: prompts.0.size: size: match needs a model whose sizes the catalog knows, and it does not know 'a-stranger'", model="a-stranger"),
    Wrong("no-images", "openai", "prompts: [{prompt: A, operation: edit}]\n", "otters.yaml:4:11: prompts.0: operation edit needs images: [photo.png]"),
    Wrong("no-images-for-text", "openai", "operation: edit\nprompts: [A]\n", "otters.yaml:5:11: prompts.0: operation edit needs images: write prompt: … with images: […]"),
    Wrong("images-for-nothing", "openai", "prompts: [{prompt: A, images: [a.png]}]\n", "otters.yaml:4:11: prompts.0: images and mask go with operation: edit, images also with operation: vary"),
    Wrong("mask-of-nothing", "openai", "prompts: [{prompt: A, operation: edit, mask: hole.png}]\n", "otters.yaml:4:11: prompts.0: operation edit needs images: [photo.png]"),
    Wrong("area-of-nothing", "openai", EDIT % ("a.png", ", mask_area: white"), "otters.yaml:4:11: prompts.0: mask_area goes with mask"),
    Wrong("mask-to-vary", "openai", "prompts: [{operation: vary, images: [a.png], mask: hole.png}]\n", "otters.yaml:4:11: prompts.0: a mask goes with operation: edit"),
    Wrong("two-to-vary", "openai", "prompts: [{operation: vary, images: [a.png, b.png]}]\n", "otters.yaml:4:11: 2 images, and pretend takes at most 1"),
    Wrong("17-images", "openai", EDIT % (", ".join(["a.png"] * 17), ""), "otters.yaml:4:11: 17 images, and pretend takes at most 16"),
    Wrong("nowhere", "openai", EDIT % ("nowhere.png", ""), "otters.yaml:4:11: nowhere.png: No such file or directory (looked for at nowhere.png)"),
    Wrong("no-image", "openai", EDIT % ("note.png", ""), "otters.yaml:4:11: note.png: is no PNG, JPEG or WebP file"),
    Wrong("empty", "openai", EDIT % ("empty.png", ""), "otters.yaml:4:11: empty.png: is no PNG, JPEG or WebP file"),
    Wrong("x1-cut", "openai", EDIT % ("cut.png", ""), "otters.yaml:4:11: cut.png: not a whole image (looked for at cut.png)"),
    Wrong("x5-vast", "openai", EDIT % ("vast.png", ""), "otters.yaml:4:11: vast.png: has 3,600,000,000 pixels, more than 100,000,000"),
    Wrong("gif", "openai", EDIT % ("a.gif", ""), "otters.yaml:4:11: a.gif: is no PNG, JPEG or WebP file"),
    Wrong("folder", "openai", EDIT % ("folder.png", ""), "otters.yaml:4:11: folder.png: is no file"),
    Wrong("60-mb", "openai", EDIT % ("heavy.png", ""), "otters.yaml:4:11: heavy.png has 60,000,168 bytes, and pretend takes at most 52,428,799"),
    Wrong("15-mb-in-json", "openai", EDIT % ("'https://a.example/a.png', big.png", ""), "otters.yaml:4:11: big.png has 16,000,168 bytes, and pretend takes at most 15,728,600 in a request with links or ids"),
    Wrong("http", "openai", EDIT % ("'http://a.example/a.png'", ""), "otters.yaml:4:11: 'http://a.example/a.png' is neither a file nor a link that begins with https://"),
    Wrong("data-url", "openai", EDIT % ("'data:image/png;base64,AAAA'", ""), "otters.yaml:4:11: 'data:image/png;base64,AAAA' is neither a file nor a link that begins with https://"),
    Wrong("z8-file-url", "openai", EDIT % ("'file:///etc/passwd'", ""), "otters.yaml:4:11: 'file:///etc/passwd' is neither a file nor a link that begins with https://"),
    Wrong("second-row", "openai", ROWS, "rows.csv:3: nowhere.png: No such file or directory (looked for at nowhere.png)\nrows.csv:4: images: no file is named", csv="prompt,image,mask\nA,a.png,\nB,nowhere.png,\nC,,hole.png\n"),
    Wrong("mask-of-another-size", "openai", ROWS, "rows.csv:3: the mask hole.png is 64x64, and wide.png 96x64: they must be of one size", csv="prompt,image,mask\nA,a.png,hole.png\nB,wide.png,hole.png\n"),
    Wrong("mask-of-a-turned-photo", "openai", ROWS, "rows.csv:2: the mask wide-hole.png is 96x64, and turned.jpg 64x96: they must be of one size", csv="prompt,image,mask\nA,turned.jpg,wide-hole.png\n"),
    Wrong("mask-without-alpha", "openai", EDIT % ("a.png", ", mask: b.png"), "otters.yaml:4:11: b.png: the mask has no transparency: erase what is to change, or set mask_area: white (or black)"),
    Wrong("mask-without-hole", "openai", EDIT % ("a.png", ", mask: opaque.png"), "otters.yaml:4:11: opaque.png: nothing in the mask is transparent, so nothing would change"),
    Wrong("mask-without-white", "openai", EDIT % ("a.png", ", mask: black.jpg, mask_area: white"), "otters.yaml:4:11: black.jpg: nothing in the mask is white, so nothing would change"),
    Wrong("mask-without-black", "openai", EDIT % ("a.png", ", mask: white.jpg, mask_area: black"), "otters.yaml:4:11: white.jpg: nothing in the mask is black, so nothing would change"),
    Wrong("jpeg-mask", "openai", EDIT % ("a.png", ", mask: black.jpg"), "otters.yaml:4:11: black.jpg: the mask has no transparency: erase what is to change, or set mask_area: white (or black)"),
    Wrong("webp-mask", "openai", EDIT % ("a.png", ", mask: hole.webp"), "otters.yaml:4:11: the mask hole.webp is a webp file: it must be a PNG"),
    Wrong("heavy-mask", "openai", EDIT % ("a.png", ", mask: heavy-mask.png"), "otters.yaml:4:11: the mask heavy-mask.png has 4,194,526 bytes, and pretend takes at most 4,194,303"),
    Wrong("link-as-white-mask", "openai", EDIT % ("a.png", ", mask: 'https://a.example/m.png', mask_area: white"), "otters.yaml:4:11: https://a.example/m.png: mask_area: white needs a file"),
    Wrong("aimlapi-n", "aimlapi", "prompts: [A]\nrequest: {n: 2}\n", "otters.yaml:5:14: request.n: aimlapi makes one image per generation request: n must be 1: n is 2 at line 5"),
    Wrong("aimlapi-n-by-row", "aimlapi", "prompts: [{file: rows.csv, n: '{{ n }}'}]\n", "rows.csv:3: aimlapi makes one image per generation request: n must be 1", csv="prompt,n\nA,1\nB,2\n"),
    Wrong("aimlapi-moderation", "aimlapi", EDIT % ("a.png", ", moderation: low"), "otters.yaml:4:69: prompts.0.moderation: aimlapi takes moderation for generations only: moderation is low at line 4"),
    Wrong("aimlapi-size", "aimlapi", "prompts: [A]\nrequest: {size: auto}\n", "otters.yaml:5:17: request.size: 'auto' is not one of 1024x1024, 1536x1024, 1024x1536"),
    Wrong("aimlapi-quality", "aimlapi", "prompts: [A]\nrequest: {quality: auto}\n", "otters.yaml:5:20: request.quality: 'auto' is not one of low, medium, high"),
    Wrong("aimlapi-stream", "aimlapi", "prompts: [A]\nrequest: {stream: true}\n", "otters.yaml:5:11: request.stream: pretend takes no stream"),
    Wrong("aimlapi-link", "aimlapi", EDIT % ("'https://a.example/a.png'", ""), "otters.yaml:4:11: https://a.example/a.png: pretend takes no links to images: save it as a file"),
    Wrong("aimlapi-vary", "aimlapi", "prompts: [{operation: vary, images: [a.png]}]\n", "otters.yaml:4:23: prompts.0.operation: pretend has no operation vary"),
    Wrong("classic-prompt", "classic", f"prompts: [{'x' * 1001}]\n", "otters.yaml:4:11: prompts.0: the prompt has 1,001 characters, and pretend takes at most 1,000"),
    Wrong("classic-size", "classic", "prompts: [A]\nrequest: {size: 1536x1024}\n", "otters.yaml:5:17: request.size: '1536x1024' is not one of 256x256, 512x512, 1024x1024"),
    Wrong("classic-quality", "classic", "prompts: [A]\nrequest: {quality: low}\n", "otters.yaml:5:11: request.quality: pretend takes no quality"),
    Wrong("classic-edit", "classic", EDIT % ("a.png", ""), "otters.yaml:4:34: prompts.0.operation: pretend has no operation edit"),
    Wrong("myrouter-edit", "myrouter", EDIT % ("a.png", ""), "otters.yaml:4:34: prompts.0.operation: pretend has no operation edit"),
    Wrong("myrouter-background", "myrouter", "prompts: [A]\nrequest: {background: opaque}\n", "otters.yaml:5:11: request.background: pretend takes no background"),
    Wrong("myrouter-n", "myrouter", "prompts: [A]\nmatrix: {n: [10, 11]}\n", "otters.yaml:5:18: matrix.n.1: 11 is more than 10"),
    Wrong("myrouter-size", "myrouter", "prompts: [A]\nrequest: {size: 2048x2048}\n", "otters.yaml:5:17: request.size: '2048x2048' is not one of auto, 1024x1024, 1536x1024, 1024x1536"),
    Wrong("onerouter-mask", "onerouter", EDIT % ("a.png", ", mask: hole.png"), "otters.yaml:4:11: pretend takes no mask"),
    Wrong("onerouter-id", "onerouter", EDIT % ("file-abc", ""), "otters.yaml:4:11: file-abc: pretend takes no ids of uploaded files: save it as a file"),
    Wrong("onerouter-format", "onerouter", "prompts: [A]\nrequest: {output_format: jpeg}\n", "otters.yaml:5:26: request.output_format: 'jpeg' is not one of url, b64_json"),
    Wrong("onerouter-vary", "onerouter", "prompts: [{operation: vary, images: [a.png]}]\n", "otters.yaml:4:23: prompts.0.operation: pretend has no operation vary"),
    Wrong("azure-webp", "azure", "prompts: [A]\nrequest: {output_format: webp}\n", "otters.yaml:5:26: request.output_format: 'webp' is not one of png, jpeg"),
    Wrong("azure-link", "azure", EDIT % ("'https://a.example/a.png'", ""), "otters.yaml:4:11: https://a.example/a.png: pretend takes no links to images: save it as a file"),
    Wrong("litellm-seed", "litellm", "prompts: [A]\nrequest: {seed: 7}\n", "otters.yaml:5:11: request.seed: pretend takes no seed"),
    Wrong("localai-no-mask", "localai", EDIT % ("a.png", ""), "otters.yaml:4:11: pretend needs a mask: it changes what the mask tells"),
    Wrong("localai-size", "localai", "prompts: [A]\nrequest: {size: auto}\n", "otters.yaml:5:17: request.size: localai paints 512x512 for auto, without a word: name a size: size is auto at line 5"),
    Wrong("localai-two", "localai", EDIT % ("a.png, b.png", ", mask: hole.png"), "otters.yaml:4:11: 2 images, and pretend takes at most 1"),
    Wrong("sglang-mask", "sglang", EDIT % ("a.png", ", mask: hole.png"), "otters.yaml:4:11: pretend takes no mask"),
    Wrong("vllm-url", "vllm", "prompts: [A]\nrequest: {response_format: url}\n", "otters.yaml:5:28: request.response_format: 'url' is not one of b64_json"),
)  # fmt: skip


def head(world: World, dialect: str, model: str) -> str:
    """The first three lines: the sandbox, in that dialect."""
    provider = (
        f"{{name: pretend, dialect: {dialect}, base_url: '{world.sandbox.root}/{dialect}/v1', api_key_env: {KEY_ENV}}}"
    )
    return f"name: otters\nprovider: {provider}\nmodel: {model}\n"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """What a command ends with, and all that it says, in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments])
    streams = capsys.readouterr()
    assert streams.out == ""
    return int(str(ended.value.code)), streams.err


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in WRONG])
def test_what_a_provider_would_refuse_is_told_with_its_place_and_nothing_is_sent(
    case: Wrong, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world.folder)
    monkeypatch.setenv(KEY_ENV, "sk-never-sent")
    lay_out(world.folder, case.text + case.csv)
    (world.folder / "rows.csv").write_text(case.csv)
    (world.folder / "otters.yaml").write_text(head(world, case.dialect, case.model) + case.text)
    eventually(lambda: not world.sandbox.stats()["open"])  # what an earlier test was cut off from is counted by now
    before = world.sandbox.stats()["requests"]
    for command in (["plan"], ["run", "--yes"]):
        code, err = said(capsys, *command, "otters.yaml")
        assert (code, err.rstrip("\n")) == (2, case.says)
    assert world.sandbox.stats()["requests"] == before
    assert not (world.folder / "runs").exists()


def test_the_wrong_manifests_speak_every_dialect() -> None:
    assert {"openai", "aimlapi", "onerouter", "myrouter", "classic"} < {case.dialect for case in WRONG}
    assert len({case.name for case in WRONG}) == len(WRONG)


# fine

FINE = {
    "a mask as one sees a turned photo": EDIT % ("turned.jpg", ", mask: tall-hole.png"),
    "a mask that is a photograph of black paint": EDIT % ("a.png", ", mask: black.jpg, mask_area: black"),
    "a mask over the first of several": EDIT % ("a.png, wide.png", ", mask: hole.png"),
    "a link behind a file that the size matches": EDIT % ("a.png, 'https://a.example/a.png'", ", size: match"),
    "16 images": EDIT % (", ".join(["a.png"] * 16), ""),
    "an uploaded file": EDIT % ("file-abc", ""),
    "a mask over what nobody here has seen": EDIT % ("'https://a.example/a.png'", ", mask: hole.png"),
    "a variation without a prompt": "prompts: [{operation: vary, images: [a.png]}]\n",
}


@pytest.mark.parametrize("text", FINE.values(), ids=FINE.keys())
def test_what_a_provider_takes_is_planned(text: str, tmp_path: Path) -> None:
    assert planned(tmp_path, text)


@pytest.mark.parametrize("where", ["request: {input_fidelity: high}", "matrix: {input_fidelity: [low, high]}"])
def test_what_is_for_edits_only_may_stand_where_it_is_the_same_for_all_edits(where: str, tmp_path: Path) -> None:
    assert planned(tmp_path, f"{EDIT % ('a.png', '')}{where}\n", model="gpt-image-1.5")


def planned(folder: Path, text: str, model: str = "gpt-image-2", csv: str = "") -> list[Task]:
    """The tasks of a manifest at a pretend provider; the files that it names are made where they are not there."""
    (folder / "rows.csv").write_text(csv)
    missing = " ".join(name for name in FILES if not (folder / name).exists() and name in text + csv)
    lay_out(folder, missing)
    text = f"name: otters\nprovider: sandbox\nmodel: {model}\n{text}"
    return list(tasks(manifest.loads(text, folder / "otters.yaml", Setup({}))))


# what a key knows


def key(folder: Path, images: str, more: str = "") -> str:
    (task,) = planned(folder, EDIT % (images, more))
    return task.key


def test_a_key_knows_a_file_by_its_content_wherever_that_lies(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("mine.png", "photos/ein Bild äöü.png", "what it is called is no matter.jpg"):
        (tmp_path / name).write_bytes(photo())
    names = ("mine.png", "photos/ein Bild äöü.png", "photos/../mine.png", f"{tmp_path}/mine.png")
    keys = {key(tmp_path, f"'{name}'") for name in (*names, "what it is called is no matter.jpg")}
    assert keys == {key(tmp_path, "a.png")}


def test_a_key_knows_a_single_byte(tmp_path: Path) -> None:
    before = key(tmp_path, "a.png")
    (tmp_path / "a.png").write_bytes(padded(photo(), 1))
    assert key(tmp_path, "a.png") != before


def test_a_key_knows_the_order_of_images_and_which_of_them_is_a_mask(tmp_path: Path) -> None:
    more = (", mask: hole.png", ", mask: b.png, mask_area: black", ", mask: b.png, mask_area: white")
    found = [key(tmp_path, images) for images in ("a.png", "a.png, b.png", "b.png, a.png", "a.png, a.png")]
    (tmp_path / "b.png").write_bytes(encoded(PIL.Image.linear_gradient("L").resize((SIDE, SIDE))))
    found += [key(tmp_path, "a.png", each) for each in more]
    found += [key(tmp_path, "a.png, b.png"), key(tmp_path, "a.png, hole.png")]
    assert len(set(found)) == len(found)


def test_a_key_knows_what_a_mask_tells_by_white_from_what_it_tells_by_black(tmp_path: Path) -> None:
    (tmp_path / "grey.png").write_bytes(encoded(PIL.Image.linear_gradient("L").resize((SIDE, SIDE))))
    white, black = (key(tmp_path, "a.png", f", mask: grey.png, mask_area: {area}") for area in ("white", "black"))
    assert white != black


def test_a_key_knows_a_link_and_an_id_by_their_names(tmp_path: Path) -> None:
    images = ("'https://a.example/a.png'", "'https://a.example/a.png?v=2'", "file-abc", "file-abd", "a.png")
    assert len({key(tmp_path, each) for each in images}) == len(images)
    before = key(tmp_path, "file-abc")
    (tmp_path / "file-abc").write_bytes(photo())
    assert before != key(tmp_path, "file-abc") == key(tmp_path, "a.png"), "where there is such a file, it is meant"


def test_the_turn_that_a_camera_notes_is_part_of_a_file(tmp_path: Path) -> None:
    """Other bytes, another key; and the size that matches is that of the photo as one sees it."""
    for turn in (1, 3, 6, 8):
        (tmp_path / f"{turn}.jpg").write_bytes(photo((1536, 1024), "JPEG", turn))
    found = [planned(tmp_path, EDIT % (f"{turn}.jpg", ", size: match"))[0] for turn in (1, 3, 6, 8)]
    assert [task.variant.param("size") for task in found] == ["1536x1024", "1536x1024", "1024x1536", "1024x1536"]
    assert [(each.width, each.height) for task in found for each in task.images] == [(1536, 1024)] * 2 + [
        (1024, 1536)
    ] * 2
    assert len({task.key for task in found}) == 4


def test_the_size_that_matches_is_fixed_by_the_plan_and_known_to_the_key_as_it_was_asked_for(tmp_path: Path) -> None:
    csv = "prompt,image\nA,a.png\nA,wide.png\nA,turned.jpg\n"
    text = "prompts: [{file: rows.csv, operation: edit, images: ['{{ image }}']}]\nrequest: {size: match}\n"
    found = planned(tmp_path, text, csv=csv)
    assert [task.variant.param("size") for task in found] == ["816x816", "1008x672", "672x1008"]
    for task in found:
        asked = replace(task.variant, params=(("size", "match"),))
        named = tuple(each.identity for each in task.inputs)
        assert Identity(asked).key(canonical("A"), 1, 1, named) == task.key
        assert Identity(task.variant).key(canonical("A"), 1, 1, named) != task.key


def test_an_empty_cell_means_no_mask_for_that_row(tmp_path: Path) -> None:
    csv = "prompt,image,mask\nA,a.png,hole.png\nA,a.png,\nA,a.png,  \n"
    masked, plain = planned(tmp_path, ROWS, csv=csv)
    assert (bool(masked.mask), plain.mask, len(plain.inputs)) == (True, None, 1)


def test_a_file_is_read_once_however_many_rows_name_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(photo())
    gallery = Gallery(tmp_path)
    first = gallery.find("a.png")
    (tmp_path / "a.png").unlink()
    assert gallery.find("a.png") is first
    with pytest.raises(ValueError, match="No such file") as caught:
        gallery.find("b.png")
    (tmp_path / "b.png").write_bytes(photo())
    with pytest.raises(ValueError, match=str(caught.value)[:20]):
        gallery.find("b.png")


def test_all_rows_share_what_was_found_of_a_file(tmp_path: Path) -> None:
    csv = "prompt,image,mask\n" + "".join(f"{n},a.png,hole.png\n" for n in range(50))
    lay_out(tmp_path, csv)
    (tmp_path / "rows.csv").write_text(csv)
    text = f"name: a\nprovider: sandbox\nmodel: gpt-image-2\n{ROWS}"
    found = list(rows(manifest.loads(text, tmp_path / "x.yaml", Setup({})), Gallery(tmp_path)))
    assert len(found) == 50
    assert {len({id(row.inputs[place]) for row in found}) for place in (0, 1)} == {1}


# what a file may be


def look(data: bytes, folder: Path, area: str = "") -> Input:
    (folder / "file").write_bytes(data)
    return Gallery(folder).find("file", area)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_file_is_seen_as_a_person_sees_it(kind: str, turn: int, tmp_path: Path) -> None:
    data = photo((20, 10), kind, turn)
    found = look(data, tmp_path)
    upright = ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    assert (found.kind, found.format, found.bytes) == (Kind.FILE, kind.lower(), len(data))
    assert (found.width, found.height) == upright.size == ((20, 10) if turn < 5 else (10, 20))
    assert found.sha256 == hashlib.sha256(data).hexdigest()


def test_a_row_of_pictures_in_one_file_is_the_first_of_them(tmp_path: Path) -> None:
    """Phones write them."""
    more = [PIL.Image.new("RGB", (20, 10), "red")]
    data = encoded(PIL.Image.new("RGB", (20, 10)), "MPO", save_all=True, append_images=more)
    assert (look(data, tmp_path).format, look(data, tmp_path).width) == ("jpeg", 20)


def with_a_broken_note(kind: str) -> bytes:
    """A photo that is whole, but for what its camera noted beside the picture."""
    data = photo((20, 10), kind, RIGHT)
    if kind != "PNG":
        return data.replace(b"MM\0*", b"NN\0*").replace(b"II*\0", b"NN*\0")
    place = data.index(b"eXIf")
    end = place + 8 + int.from_bytes(data[place - 4 : place])
    return data[: place - 4] + chunk(b"eXIf", b"NN" + data[place + 6 : end - 4]) + data[end:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_whose_camera_wrote_a_broken_note_is_a_photo(kind: str, tmp_path: Path) -> None:
    data = with_a_broken_note(kind)
    assert data != photo((20, 10), kind, RIGHT)
    assert look(data, tmp_path).width == 20


@pytest.mark.parametrize("area", ["", "transparent", "white"])
def test_x4_a_picture_with_a_damaged_chunk_is_told_and_breaks_nothing(area: str, tmp_path: Path) -> None:
    noise = PIL.Image.effect_noise((400, 400), 90).convert("RGBA")  # so much of it that there are several IDAT
    noise.putalpha(0)
    data = bytearray(encoded(noise))
    data[data.index(b"IDAT", data.index(b"IDAT") + 4)] = 0xFF
    with pytest.raises(ValueError, match=r"^file: "):
        look(bytes(data), tmp_path, area)


# masks in other words

AREAS = ("transparent", "white", "black")
Grid = tuple[tuple[bool, ...], ...]


def drawn(grid: Grid, area: str) -> PIL.Image.Image:
    """A mask whose place to change is where the grid is true, by hand."""
    image = PIL.Image.new("RGBA" if area == "transparent" else "L", (len(grid[0]), len(grid)))
    change: Any = {"transparent": (9, 9, 9, 0), "white": 255, "black": 0}[area]
    keep: Any = {"transparent": (9, 9, 9, 255), "white": 0, "black": 255}[area]
    for y, line in enumerate(grid):
        for x, changes in enumerate(line):
            image.putpixel((x, y), change if changes else keep)
    return image


def told(data: bytes, area: str) -> Grid:
    """Where a PNG says that something is to change, pixel by pixel."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "RGBA" if area == "transparent" else "L")
        pixels = [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]
    marks: Any = (0, 0, 0, 0) if area == "transparent" else {"white": 255, "black": 0}[area]
    known = {(0, 0, 0, 0), (0, 0, 0, 255)} if area == "transparent" else {0, 255}
    assert {pixel for line in pixels for pixel in line} <= known
    return tuple(tuple(pixel == marks for pixel in line) for line in pixels)


def words(data: bytes, folder: Path, area: str, wanted: str) -> bytes:
    return inputs.worded(folder / "file", look(data, folder, area), wanted)


HALF_LEFT: Grid = ((True, False, False), (True, True, False))
GRIDS = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.tuples(*[st.booleans()] * width), min_size=1, max_size=5).map(tuple)
)


@pytest.mark.parametrize("wanted", ["transparent", "white"])
@pytest.mark.parametrize("area", AREAS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=GRIDS.filter(lambda grid: any(map(any, grid))))
def test_a_mask_says_the_same_in_other_words(area: str, wanted: str, grid: Grid, tmp_path: Path) -> None:
    assert told(words(encoded(drawn(grid, area)), tmp_path, area, wanted), wanted) == grid


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("area", ["white", "black"])
def test_a_mask_may_be_painted_in_any_mode(mode: str, area: str, tmp_path: Path) -> None:
    image = drawn(HALF_LEFT, area)
    data = encoded(
        image.point(lambda value: value * 257, "I").convert("I;16") if mode == "I;16" else image.convert(mode)
    )
    assert told(words(data, tmp_path, area, "transparent"), "transparent") == HALF_LEFT


@pytest.mark.parametrize("area", ["white", "black"])
def test_a_mask_that_is_clear_in_places_says_nothing_by_its_colours(area: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"transparent in places: leave mask_area: {area} out, or flatten it"):
        look(mask(), tmp_path, area)
    opaque = drawn(HALF_LEFT, "white").convert("LA")
    assert told(words(encoded(opaque), tmp_path, "white", "transparent"), "transparent") == HALF_LEFT


def test_from_half_grey_on_it_is_white_and_only_what_is_clear_is_transparent(tmp_path: Path) -> None:
    greys = PIL.Image.frombytes("L", (4, 1), bytes((0, 127, 128, 255)))
    white, black = ((False, False, True, True),), ((True, True, False, False),)
    assert told(words(encoded(greys), tmp_path, "white", "transparent"), "transparent") == white
    assert told(words(encoded(greys), tmp_path, "black", "transparent"), "transparent") == black
    clear = PIL.Image.new("RGBA", (4, 1))
    clear.putalpha(greys)
    assert told(words(encoded(clear), tmp_path, "transparent", "white"), "white") == ((True, False, False, False),)


def test_a_mask_that_was_photographed_lying_is_told_upright(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = RIGHT
    lying = PIL.Image.new("L", (32, 16), 0)
    lying.paste(255, (0, 0, 16, 16))  # the left half, which is the upper one once it is turned to the right
    data = encoded(lying, "JPEG", exif=exif)
    upright = told(words(data, tmp_path, "white", "transparent"), "transparent")
    assert upright == ((True,) * 16,) * 16 + ((False,) * 16,) * 16
    assert (look(data, tmp_path, "white").width, look(data, tmp_path, "white").height) == (16, 32)


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_mask_that_changed_is_not_put_into_words(change: str, tmp_path: Path) -> None:
    seen = look(encoded(drawn(HALF_LEFT, "white")), tmp_path, "white")
    if change == "gone":
        (tmp_path / "file").unlink()
    else:
        (tmp_path / "file").write_bytes(encoded(drawn(HALF_LEFT, "black")))
    with pytest.raises(Rejected) as caught:
        inputs.worded(tmp_path / "file", seen, "transparent")
    assert caught.value.code == "input_changed"


# on their way

SOURCE = {"operation": "edit", "prompt": "Otter {{ n }}", "images": ["{{ n }}.png"]}


def edits(world: World, count: int = 3, **changes: object) -> dict[str, Any]:
    """A manifest of so many edits, each of a photo of its own."""
    for n in range(count):
        (world.folder / f"{n}.png").write_bytes(photo(shade=n))
    return {"prompts": [{**SOURCE, "vars": {"n": list(range(count))}}], **changes}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def other_content(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def another_photo(path: Path) -> None:
    path.write_bytes(photo((SIDE, 96), shade=200))


@pytest.mark.parametrize("change", [other_content, truncated, another_photo, Path.unlink])
def test_a_photo_that_changes_after_the_plan_fails_alone_and_is_billed_by_nobody(
    world: World, change: Callable[[Path], object]
) -> None:
    manifest = edits(world)
    job = world.job(**manifest)
    change(world.folder / "1.png")
    ended = anyio.run(job.run)
    assert (ended.exit_code, ended.reason, world.states()) == (3, "1 failed", {"done": 2, "failed": 1})
    ((prompt, state, code, error),) = world.rows(
        "SELECT p.text, a.state, a.code, a.error FROM attempts a JOIN tasks t ON t.seq = a.task"
        " JOIN prompts p ON p.id = t.prompt WHERE a.state != 'paid'"
    )
    assert (prompt, state, code) == ("Otter 1", "rejected", "input_changed")
    assert error.startswith("1.png: ")
    assert error.endswith(
        "Nothing was sent: run the manifest for what is there now; or put it back, and batchgen retry RUN --failed"
    )
    assert sorted(each["inputs"][0] for each in world.charges()) == sorted(digest(photo(shade=n)) for n in (0, 2))
    world.check_equal_to_the_bill()


def test_a_photo_that_changed_is_another_wish_for_the_next_run(world: World) -> None:
    manifest = edits(world)
    assert world.run(**manifest).exit_code == 0
    another_photo(world.folder / "1.png")
    assert world.run(**manifest).exit_code == 0
    assert [each["inputs"] for each in world.charges()][3:] == [[digest(photo((SIDE, 96), shade=200))]]
    assert world.rows("SELECT wanted, count(*) FROM tasks GROUP BY wanted ORDER BY wanted")[0] == ("dropped", 1)
    world.check_equal_to_the_bill()


def test_what_failed_because_it_changed_is_bought_as_it_is_now_by_the_next_run(world: World) -> None:
    manifest = edits(world)
    job = world.job(**manifest)
    another_photo(world.folder / "1.png")
    assert anyio.run(job.run).exit_code == 3
    assert (world.run(**manifest).exit_code, len(world.charges())) == (0, 3)
    world.check_equal_to_the_bill()


def test_a_mask_that_changes_after_the_plan_is_sent_in_no_words(world: World) -> None:
    lay_out(world.folder, "a.png white.jpg hole.png")
    source = {"prompt": OTTER, "operation": "edit"}
    masks = ({"mask": "white.jpg", "mask_area": "white"}, {"mask": "hole.png"})
    job = world.job(prompts=[{**source, **each, "images": ["a.png"]} for each in masks])
    for name in ("white.jpg", "hole.png"):
        other_content(world.folder / name)
    assert anyio.run(job.run).exit_code == 3
    assert world.rows("SELECT DISTINCT state, code FROM attempts") == [("rejected", "input_changed")]
    assert not world.charges()


def masked(world: World, dialect: str, model: str, **source: object) -> dict[str, Any]:
    """An edit at the sandbox, which speaks like a provider of the catalog."""
    url = f"{world.sandbox.root}/{dialect}/v1"
    provider = {"name": "pretend", "dialect": dialect, "base_url": url, "api_key_env": KEY_ENV, "links": ["127.0.0.1"]}
    price = {"text_in": 5, "image_in": 10, "image_out": 40}
    source = {"prompt": OTTER, "operation": "edit", "images": ["a.png"], **source}
    return {"provider": {**provider, "price": price}, "model": model, "prompts": [source], "request": None}


@pytest.mark.parametrize(
    ("dialect", "model", "wanted"),
    [("openai", "gpt-image-2", "transparent"), ("vllm", "qwen-image-edit", "transparent")],
)
@pytest.mark.parametrize("area", AREAS)
def test_a_mask_reaches_the_provider_in_its_own_words(
    world: World, dialect: str, model: str, wanted: str, area: str
) -> None:
    (world.folder / "a.png").write_bytes(photo((3, 2)))
    (world.folder / "mask.png").write_bytes(encoded(drawn(HALF_LEFT, area)))
    assert world.run(**masked(world, dialect, model, mask="mask.png", mask_area=area)).exit_code == 0
    planned = Gallery(world.folder).find("mask.png", area)
    same = (world.folder / "mask.png").read_bytes()
    sent = same if area == wanted else inputs.worded(world.folder / "mask.png", planned, wanted)
    assert told(inputs.worded(world.folder / "mask.png", planned, wanted), wanted) == HALF_LEFT
    assert [each["mask"] for each in world.charges()] == [digest(sent)]


@pytest.mark.parametrize("area", AREAS)
def test_what_changes_where_a_mask_is_white_is_told_so(world: World, area: str) -> None:
    (world.folder / "a.png").write_bytes(photo((3, 2)))
    (world.folder / "mask.png").write_bytes(encoded(drawn(HALF_LEFT, area)))
    asked = masked(world, "localai", "flux.1-fill", mask="mask.png", mask_area=area)
    assert world.run(**asked).exit_code == 0
    (sent,) = (each["mask"] for each in world.charges())
    by_hand = encoded(drawn(HALF_LEFT, "white"))
    planned = Gallery(world.folder).find("mask.png", area)
    assert sent == digest(by_hand if area == "white" else inputs.worded(world.folder / "mask.png", planned, "white"))


def test_a_mask_of_a_palette_that_has_a_clear_colour_is_understood(world: World) -> None:
    """An alpha channel is what providers ask for; a palette's transparency is none."""
    image = PIL.Image.new("P", (SIDE, SIDE), 0)
    image.paste(1, (0, 0, SIDE // 2, SIDE))
    image.putpalette([0, 0, 0, 255, 255, 255])
    (world.folder / "a.png").write_bytes(photo())
    (world.folder / "mask.png").write_bytes(encoded(image, transparency=1))
    source = {"prompt": OTTER, "operation": "edit", "images": ["a.png"], "mask": "mask.png"}
    assert world.run(prompts=[source]).exit_code == 0
    assert [bool(each["mask"]) for each in world.charges()] == [True]


def test_a_clear_colour_is_told_pixel_by_pixel_and_known_to_the_key(tmp_path: Path) -> None:
    image = PIL.Image.new("P", (3, 2), 0)
    for x, y in ((0, 0), (0, 1), (1, 1)):
        image.putpixel((x, y), 1)
    image.putpalette([0, 0, 0, 255, 255, 255])
    data = encoded(image, transparency=1)
    seen = look(data, tmp_path, "transparent")
    assert (seen.area, seen.identity) == ("palette", f"mask palette {digest(data)}")
    for wanted in ("transparent", "white"):
        assert told(words(data, tmp_path, "transparent", wanted), wanted) == HALF_LEFT


def test_a_link_with_a_file_beside_it_goes_as_json_and_the_mask_goes_along(world: World) -> None:
    lay_out(world.folder, "a.png hole.png")
    images = ["https://pictures.example/otter.png", "a.png"]
    source = {"prompt": OTTER, "operation": "edit", "images": images, "mask": "hole.png"}
    assert world.run(prompts=[source]).exit_code == 0
    (charge,) = world.charges()
    assert charge["inputs"] == [f"link:{images[0]}", digest(photo())]
    assert charge["mask"] == digest(mask())


def test_a_large_photo_arrives_whole(world: World) -> None:
    """Larger than what is read at once."""
    data = padded(photo(), 3_000_000)
    (world.folder / "big.png").write_bytes(data)
    source = {"prompt": OTTER, "operation": "edit"}
    prompts = [{**source, "images": ["big.png"]}, {**source, "images": ["https://a.example/a.png", "big.png"]}]
    assert world.run(prompts=prompts).exit_code == 0
    assert sorted(each["inputs"][-1] for each in world.charges()) == [digest(data)] * 2
    world.check_equal_to_the_bill()


def moved(world: World, manifest: dict[str, Any]) -> dict[str, Any]:
    """The same photos in another folder, and the manifest that names them there."""
    folder = world.folder / "photos"
    folder.mkdir()
    for path in world.folder.glob("[0-9].png"):
        path.rename(folder / path.name)
    return {**manifest, "prompts": [{**manifest["prompts"][0], "images": ["photos/{{ n }}.png"]}]}


def test_photos_that_were_moved_are_found_where_the_manifest_says_and_not_bought_again(world: World) -> None:
    manifest = edits(world, limits={"concurrency": 1, "budget": 10, "images": 1})
    assert world.run(**manifest).exit_code == 4
    manifest = moved(world, {**manifest, "limits": {"budget": 10}})
    assert (world.run(**manifest).exit_code, world.states()) == (0, {"done": 3})
    assert sorted(each["inputs"][0] for each in world.charges()) == sorted(digest(photo(shade=n)) for n in range(3))
    world.check_equal_to_the_bill()
    assert (world.run(**manifest).exit_code, len(world.charges())) == (0, 3)


def test_what_failed_because_its_photo_was_moved_is_tried_again_where_it_is_now(world: World) -> None:
    manifest = edits(world)
    job = world.job(**manifest)
    manifest = moved(world, manifest)
    ended = anyio.run(job.run)
    assert (ended.exit_code, world.states(), world.charges()) == (3, {"failed": 3}, [])
    world.run(**manifest)
    assert world.command("retry", "otters.yaml", "--failed").returncode == 0
    assert (world.states(), len(world.charges())) == ({"done": 3}, 3)


def groups(world: World, folder: Path, **changes: object) -> list[dict[str, Any]]:
    for name, size in (("wide", (96, SIDE)), ("tall", (SIDE, 96))):
        (folder / f"{name}.png").write_bytes(photo(size))
    source = {**SOURCE, "images": ["{{ n }}.png"], "vars": {"n": ["wide", "tall"]}}
    world.write(prompts=[source], **changes)
    plan = world.command("plan", "otters.yaml", "--json")
    assert plan.returncode == 0, plan.stderr
    found: list[dict[str, Any]] = json.loads(plan.stdout)["groups"]
    return found


def test_photos_of_any_shape_are_one_group_where_nothing_is_to_match_them(world: World) -> None:
    (group,) = groups(world, world.folder)
    assert group["tasks"] == 2
    assert len(groups(world, world.folder, matrix={"quality": ["low", "high"]}, request={"size": "1024x1024"})) == 2


def test_photos_of_two_shapes_that_sizes_match_are_two_groups(world: World) -> None:
    found = groups(world, world.folder, request={"size": "match", "quality": "low"})
    assert [group["tasks"] for group in found] == [1, 1]


# cut off


def test_an_edit_that_was_bought_before_a_kill_is_not_bought_again(bad: Start) -> None:
    world = bad("--latency", "0.3")
    world.write(**edits(world, 6, limits={"concurrency": 2, "budget": 10}, retry={"on_unknown": "hold"}))
    process = world.begin("run", "otters.yaml", "--yes")
    ledger = world.run_folder / "ledger.db"
    eventually(lambda: ledger.exists() and "paid" in world.attempts())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert anyio.run(world.job(**edits(world, 6, retry={"on_unknown": "hold"})).run).exit_code in (0, 3)
    sent = [each["inputs"][0] for each in world.charges()]
    assert len(sent) == len(set(sent)), "no photo was bought twice"
    assert set(world.states()) <= {"done", "held"}
    assert world.states()["done"] >= 4
    world.check_books()


def test_a_run_that_is_named_by_its_folder_finds_the_photos(world: World) -> None:
    assert world.run(**edits(world, limits={"concurrency": 1, "budget": 10, "images": 1})).exit_code == 4
    wish = offer.wish(str(world.run_folder), None, Setup(environment(), {"limits.images": 9}))
    job = Job(Order(wish.manifest, wish.folder, offer.drawn_up(wish), environ=wish.environ))
    assert (anyio.run(job.run).exit_code, world.states()) == (0, {"done": 3})
