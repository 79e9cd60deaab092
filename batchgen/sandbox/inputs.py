"""Images that come with a request: as files of a form, as data URLs, links or ids; what can be seen is looked at."""

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from PIL import Image

from batchgen.sandbox import mistake
from batchgen.sandbox.mistake import Mistake, Mistaken
from batchgen.sandbox.multipart import Part
from batchgen.sandbox.order import Input, Problem, Refused
from batchgen.sandbox.parameter import Parameter, Schema

MOST = 16
LARGEST = 50 * 2**20  # bytes of an image
_LARGEST_MASK = 4 * 2**20
_LONGEST_URL = 20_971_520  # characters
_KINDS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_FILE: Schema = {"type": "string", "format": "binary"}
_TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange width and height
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True, kw_only=True)
class Files(Parameter):
    """One image, or several where the name is repeated: with brackets behind it, or where `plain` without, too."""

    most: int = MOST
    plain: bool = False

    def files(self, name: str, single: Sequence[Part], several: Sequence[Part]) -> tuple[Input, ...]:
        if (len(single) > 1 and not self.plain) or (single and several):
            _duplicate(name)
        found = (*single, *several)
        if len(found) > self.most:
            raise Mistaken(Mistake(name, "range", len(found), least=1, most=self.most))
        return tuple(_image(part, nth) for nth, part in enumerate(found, 1))

    def kind(self) -> Schema:
        return {"anyOf": [_FILE, {"type": "array", "items": _FILE, "minItems": 1, "maxItems": self.most}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class File(Files):
    """Just one image."""

    most: int = 1

    def kind(self) -> Schema:
        return dict(_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFile(Parameter):
    """A PNG, which marks by its alpha channel what to paint; some servers look at the colours instead."""

    alpha: bool = True

    def mask(self, name: str, given: Sequence[Part]) -> Input:
        if len(given) > 1:
            _duplicate(name)
        _check_kind(given[0].filename, given[0].kind)
        return mask(given[0].data, alpha=self.alpha)

    def kind(self) -> Schema:
        return dict(_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(Parameter):
    """A mask in JSON: an object with a link, a data URL or the id of a file."""

    def read(self, name: str, given: object) -> object:
        address, known = _reference(name, given)
        return known or mask(_bytes_of(name, address))

    def kind(self) -> Schema:
        one_of = [{"required": [key]} for key in ("image_url", "file_id")]
        properties = {"image_url": {"type": "string", "maxLength": _LONGEST_URL}, "file_id": {"type": "string"}}
        return {"type": "object", "properties": properties, "oneOf": one_of, "additionalProperties": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class References(Parameter):
    """Images in JSON, each an object as for the mask."""

    def read(self, name: str, given: object) -> object:
        found = []
        for nth, item in enumerate(_items(name, given), 1):
            address, known = _reference(f"{name}[{nth - 1}]", item)
            found.append(known or look(_bytes_of(name, address), nth)[0])
        return tuple(found)

    def kind(self) -> Schema:
        return {"type": "array", "items": Reference().kind(), "minItems": 1, "maxItems": MOST}


@dataclass(frozen=True, slots=True, kw_only=True)
class Links(Parameter):
    """Images in JSON, each a link or a data URL."""

    def read(self, name: str, given: object) -> object:
        found = []
        for nth, item in enumerate(_items(name, given), 1):
            address, known = _reference(name, {"image_url": item})
            found.append(known or look(_bytes_of(name, address), nth)[0])
        return tuple(found)

    def kind(self) -> Schema:
        return {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST}


def check_pair(mask: Input | None, images: Sequence[Input]) -> None:
    """A mask is as large as the first image, where both were seen."""
    if mask and images and mask.seen and images[0].seen:
        sizes = [f"{each.width}x{each.height}" for each in (mask, images[0])]
        if sizes[0] != sizes[1]:
            _unusable(f"Invalid mask image size: {sizes[0]}. It must be that of the first image, {sizes[1]}.", "mask")


def _items(name: str, given: object) -> Sequence[object]:
    if not isinstance(given, list):
        raise Mistaken(Mistake(name, "type", given, expected="an array"))
    if not 1 <= len(given) <= MOST:
        raise Mistaken(Mistake(name, "range", len(given), least=1, most=MOST))
    return given


def _reference(name: str, given: object) -> tuple[str, Input | None]:
    """A data URL that is still to be read, or the image that it stands for unseen."""
    if not isinstance(given, dict) or len(given) != 1 or not {"image_url", "file_id"} >= set(given):
        mistake.invalid(name, f"Invalid value for '{name}': expected exactly one of 'image_url' and 'file_id'.")
    ((key, value),) = given.items()
    if not isinstance(value, str):
        raise Mistaken(Mistake(f"{name}.{key}", "type", value, expected="a string"))
    if key == "file_id":
        return "", Input(f"id:{value}")
    if len(value) > _LONGEST_URL:
        raise Mistaken(Mistake(f"{name}.{key}", "long", value, most=_LONGEST_URL))
    return value, Input(f"link:{value}") if re.match(r"https?://\S+$", value) else None


def _bytes_of(name: str, data_url: str) -> bytes:
    head, _, text = data_url.partition(",")
    kind = re.fullmatch(r"data:(image/\w+);base64", head)
    if kind is None:
        mistake.invalid(name, f"Invalid '{name}': expected a link that begins with http, or a data URL in base64.")
    _check_kind("image", kind[1])
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        mistake.invalid(name, f"Invalid '{name}': the data URL holds no base64.")


def _image(part: Part, nth: int) -> Input:
    _check_kind(part.filename, part.kind)
    return look(part.data, nth)[0]


def _check_kind(filename: str, kind: str) -> None:
    if not filename or kind not in _KINDS:
        message = (
            f"Invalid file '{filename}': unsupported mimetype ('{kind or 'application/octet-stream'}')."
            " Supported file formats are 'image/jpeg', 'image/png', and 'image/webp'."
        )
        raise Refused(Problem(400, message, param="image", code="unsupported_file_mimetype"))


def look(data: bytes, nth: int) -> tuple[Input, Image.Image]:
    if len(data) >= LARGEST:
        _unusable(f"Invalid image {nth}: it must be smaller than 50MB.", "image")
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(_KINDS.values()))
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        _unusable(f"Invalid image file or mode for image {nth}, please check your image file.", "image")
    width, height = image.size
    if image.getexif().get(_ORIENTATION) in _TURNED:
        width, height = height, width
    return Input(hashlib.sha256(data).hexdigest(), width, height), image


def mask(data: bytes, *, alpha: bool = True) -> Input:
    if len(data) >= _LARGEST_MASK:
        _unusable("Invalid mask image: it must be smaller than 4MB.", "mask")
    seen, image = look(data, 1)
    if image.format != "PNG":
        _unusable(f"Invalid mask image format: {image.format}. It must be a PNG.", "mask")
    if alpha and "A" not in image.getbands():
        _unusable("Invalid mask image format - mask image missing alpha channel.", "mask")
    return seen


def _duplicate(name: str) -> NoReturn:
    message = (
        f"Duplicate parameter: '{name}'. You provided multiple values for this parameter, whereas only one is allowed."
        f" If you are trying to provide a list of values, use the array syntax instead e.g. '{name}[]=<value>'."
    )
    raise Refused(Problem(400, message, param=name, code="duplicate_parameter"))


def _unusable(message: str, param: str) -> NoReturn:
    raise Refused(Problem(400, message, "image_generation_user_error", param=param, code="invalid_image_file"))
