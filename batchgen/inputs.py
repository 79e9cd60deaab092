"""Images to edit and masks: looked at once, hashed, and held against what a provider takes."""

import hashlib
import io
import re
import stat
import struct
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import PIL.Image
from PIL import ImageChops, ImageOps

from batchgen.catalog import Intake
from batchgen.errors import Rejected
from batchgen.task import Input, Kind

FORMATS = ("png", "jpeg", "webp")
SAME = {"mpo": "jpeg"}  # a JPEG that begins a row of pictures, as phones make them
PIL.Image.MAX_IMAGE_PIXELS = None  # Pillow would only warn; the limit is checked here, from the header
LINK = re.compile(r"https://[!-~]+", re.IGNORECASE)
UPLOADED = re.compile(r"file-[A-Za-z0-9_-]+")
PIXELS_MOST = 100_000_000
TRANSPARENT, PALETTE = "transparent", "palette"
HALF = 128  # from here on a grey is white
CHANGE = 255


@dataclass(frozen=True, slots=True)
class Gallery:
    """What a manifest names, from its folder on; each file is read once, however many rows name it."""

    folder: Path
    _seen: dict[tuple[str, str], Input | str] = field(default_factory=dict)

    def find(self, name: str, area: str = "") -> Input:
        """An image, or with `area` a mask; ValueError where it cannot be used, and why."""
        if (name, area) not in self._seen:
            try:
                self._seen[name, area] = self._look(name, area)
            except ValueError as error:
                self._seen[name, area] = str(error)
        found = self._seen[name, area]
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def _look(self, name: str, area: str) -> Input:
        if LINK.fullmatch(name):
            return Input(Kind.LINK, name, area=area)
        if UPLOADED.fullmatch(name) and not (self.folder / name).exists():
            return Input(Kind.UPLOADED, name, area=area)
        if "://" in name or name.startswith("data:"):
            raise ValueError(f"{name[:40]!r} is neither a file nor a link that begins with https://")
        return _read(self.folder / name, name, area)


def _read(path: Path, name: str, area: str) -> Input:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("is no file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what a photo says about itself, only how to turn it matters
                return _seen(file, Input(Kind.FILE, name, digest, size, area=area))
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror or 'not a whole image'} (looked for at {path})") from None
    except (ValueError, SyntaxError, EOFError, OverflowError, struct.error, zlib.error) as error:
        raise ValueError(f"{name}: {error or 'is damaged'}") from None


def _seen(file: BinaryIO, read: Input) -> Input:
    """With what the picture itself tells: its format, its size, and whether it can be a mask."""
    area = read.area
    _check_whole(file)
    with _opened(file) as image:
        width, height = _turned(image)
        if area:
            _check_mask(image, area)
            area = PALETTE if area == TRANSPARENT and not _has_band(image) else area
        format = (image.format or "").lower()
    return replace(read, format=SAME.get(format, format), width=width, height=height, area=area)


def _opened(file: BinaryIO) -> PIL.Image.Image:
    try:
        image = PIL.Image.open(file, formats=[each.upper() for each in FORMATS])
    except PIL.UnidentifiedImageError:
        raise ValueError("is no PNG, JPEG or WebP file") from None
    if image.width * image.height > PIXELS_MOST:
        raise ValueError(f"has {image.width * image.height:,} pixels, more than {PIXELS_MOST:,}")
    return image


def _check_whole(file: BinaryIO) -> None:
    """A PNG's every chunk, without decoding it; of the other formats the provider knows more."""
    file.seek(0)
    with _opened(file) as image:
        if image.format == "PNG":
            image.verify()
    file.seek(0)


def _turned(image: PIL.Image.Image) -> tuple[int, int]:
    """Width and height as one sees them: cameras store a picture lying down, and a note which way to turn it."""
    exif = PIL.Image.Exif()
    with suppress(Exception):  # a note that cannot be read is none
        exif.load(image.info.get("exif", b""))  # what stands before the pixels: nothing is decoded for it
    lying = exif.get(0x0112, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if lying else (image.width, image.height)


def _check_mask(image: PIL.Image.Image, area: str) -> None:
    if area == TRANSPARENT and not (_has_band(image) or "transparency" in image.info):
        raise ValueError("the mask has no transparency: erase what is to change, or set mask_area: white (or black)")
    if area != TRANSPARENT and _has_band(image) and image.getchannel("A").getextrema() != (255, 255):
        raise ValueError(f"the mask is transparent in places: leave mask_area: {area} out, or flatten it")
    if _change(image, area).getbbox() is None:
        raise ValueError(f"nothing in the mask is {area}, so nothing would change")


def _has_band(image: PIL.Image.Image) -> bool:
    """Whether it has a transparency for each pixel; a palette has one for each colour, which providers do not read."""
    return "A" in image.getbands()


def _change(image: PIL.Image.Image, area: str) -> PIL.Image.Image:
    """What is to change, in white on black."""
    if area in (TRANSPARENT, PALETTE):
        alpha = image if _has_band(image) else image.convert("RGBA")
        return alpha.getchannel("A").point(lambda value: 0 if value else CHANGE)
    deep = image.mode.startswith("I")  # 16 bits: the upper ones count
    grey = (
        (image.convert("I").point(lambda value: value * (1 / 256)) if deep else image)
        .convert("L")
        .point(lambda value: CHANGE if value >= HALF else 0)
    )
    return grey if area == "white" else ImageChops.invert(grey)


def worded(path: Path, mask: Input, area: str) -> bytes:
    """A mask in a provider's words: a PNG whose place to change is `area`. Rejected where it is another file by now."""
    data = read(path, mask)
    with PIL.Image.open(io.BytesIO(data), formats=[each.upper() for each in FORMATS]) as image:
        seen: PIL.Image.Image = image
        with suppress(Exception):  # a note that cannot be read is none
            seen = ImageOps.exif_transpose(image)
        change = _change(seen, mask.area)
    if area == TRANSPARENT:
        told = PIL.Image.new("RGBA", change.size, (0, 0, 0, CHANGE))
        told.putalpha(ImageChops.invert(change))
        change = told
    out = io.BytesIO()
    change.save(out, "PNG")
    return out.getvalue()


def read(path: Path, planned: Input) -> bytes:
    """A file's bytes; Rejected where they are not those that were planned."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise changed(planned, error.strerror or "it cannot be read") from None
    if hashlib.sha256(data).hexdigest() != planned.sha256:
        raise changed(planned)
    return data


def changed(planned: Input, why: str = "it has changed since the plan") -> Rejected:
    """The error of a file that is not what was planned."""
    cure = "run the manifest for what is there now; or put it back, and batchgen retry RUN --failed"
    return Rejected(f"{planned.ref}: {why}. Nothing was sent: {cure}", code="input_changed")


def objection(inputs: tuple[Input, ...], intake: Intake, who: str) -> str:
    """Why a provider does not take these images, or nothing."""
    images = [each for each in inputs if not each.area]
    mask = next((each for each in inputs if each.area), None)
    if len(images) > intake.most:
        return f"{len(images)} images, and {who} takes at most {intake.most}"
    texts = intake.form != "multipart" or any(each.kind is not Kind.FILE for each in inputs)
    most = intake.data_most if texts else intake.bytes_most
    wrong = next((says for each in images if (says := _image(each, intake, most, who))), "")
    return wrong or (_mask(mask, images[0], intake, who) if mask else _lack(intake, who))


def _lack(intake: Intake, who: str) -> str:
    return f"{who} needs a mask: it changes what the mask tells" if intake.mask_needed else ""


def _image(image: Input, intake: Intake, most: int, who: str) -> str:
    if says := _reference(image, intake, who):
        return says
    if image.kind is not Kind.FILE:
        return ""
    if image.format not in intake.formats:
        return f"{image.ref} is a {image.format} file, and {who} takes {', '.join(intake.formats)}"
    if image.bytes > most:
        as_text = " in a request with links or ids" if most < intake.bytes_most else ""
        return f"{image.ref} has {image.bytes:,} bytes, and {who} takes at most {most:,}{as_text}"
    if intake.square and image.width != image.height:
        return f"{image.ref} is {image.width}x{image.height}, and {who} takes squares only"
    return ""


def _reference(image: Input, intake: Intake, who: str) -> str:
    if image.kind is Kind.FILE or str(image.kind) in intake.references:
        return ""
    kinds = {Kind.LINK: "no links to images", Kind.UPLOADED: "no ids of uploaded files"}
    return f"{image.ref}: {who} takes {kinds[image.kind]}: save it as a file"


def _mask(mask: Input, image: Input, intake: Intake, who: str) -> str:
    if not intake.mask:
        return f"{who} takes no mask"
    if says := _reference(mask, intake, who):
        return says
    if mask.kind is not Kind.FILE:
        return "" if mask.area == intake.mask else f"{mask.ref}: mask_area: {mask.area} needs a file"
    if mask.area == intake.mask and mask.format != "png":
        return f"the mask {mask.ref} is a {mask.format} file: it must be a PNG"
    if mask.bytes > intake.mask_bytes_most:
        return f"the mask {mask.ref} has {mask.bytes:,} bytes, and {who} takes at most {intake.mask_bytes_most:,}"
    if image.kind is Kind.FILE and (mask.width, mask.height) != (image.width, image.height):
        sizes = f"{mask.width}x{mask.height}, and {image.ref} {image.width}x{image.height}"
        return f"the mask {mask.ref} is {sizes}: they must be of one size"
    return ""
