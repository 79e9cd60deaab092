"""An image that shows its prompt, size and quality, on colours of its own."""

import textwrap
import unicodedata
from colorsys import hls_to_rgb
from functools import lru_cache
from itertools import product
from random import Random

from PIL import Image, ImageDraw, ImageFont

from batchgen.sandbox.order import Order

Colour = tuple[int, int, int]
Lines = list[str]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_WHITE = (255, 255, 255)
_SIMPLER = str.maketrans("–—‘’“”„×", '--\'\'"""x')
_LONGEST_TEXT = 600  # characters of a prompt that are shown
_SIZES = (11, 14, 18, 22, 27, 33, 40, 50)  # the text's height, as parts of the shorter edge: the first that fits


def paint(order: Order, number: int) -> Image.Image:
    """Equal prompts share their colours; the number gives each image shapes of its own."""
    size = (order.width, order.height)
    image = _background(size, Random(order.prompt), Random(f"{order.prompt} {number}"))
    _caption(image, order)
    _write(image, order.prompt)
    if order.background == "transparent":
        image.putalpha(_card(size))
    return image


def _background(size: tuple[int, int], palette: Random, shapes: Random) -> Image.Image:
    """A gradient with lights in it, drawn small and enlarged: that is quick, and blurs it for nothing."""
    hue, step = palette.random(), palette.choice((-1, 1)) * palette.uniform(0.05, 0.1)
    mesh = Image.new("RGB", (3, 3))
    for x, y in product(range(3), range(3)):
        mesh.putpixel((x, y), _colour(hue + step * (x + y) / 2, 0.46 - 0.1 * y + shapes.uniform(-0.05, 0.05)))
    small = mesh.resize((size[0] // 4, size[1] // 4), Image.Resampling.BICUBIC)
    for nth in range(6):
        _light(small, _colour(hue + step * shapes.uniform(0, 2.5), 0.68), shapes, soft=nth < 3)
    return small.resize(size, Image.Resampling.BICUBIC)


def _light(image: Image.Image, colour: Colour, shapes: Random, *, soft: bool) -> None:
    """A glow, or a disc seen through mist."""
    width = round(min(image.size) * (shapes.uniform(0.7, 1.3) if soft else shapes.uniform(0.12, 0.5)))
    distance = Image.radial_gradient("L").resize((width, width))  # 0 in the middle, 180 where the circle meets the edge
    strength = shapes.uniform(0.5, 0.9) if soft else shapes.uniform(0.15, 0.4)
    slope = 1 if soft else width / 4  # over how many pixels the edge fades
    mask = distance.point(lambda level: round(strength * min(180, max(0, (178 - level) * slope))))
    image.paste(colour, (shapes.randrange(image.width) - width // 2, shapes.randrange(image.height) - width // 2), mask)


def _colour(hue: float, lightness: float) -> Colour:
    red, green, blue = hls_to_rgb(hue % 1, lightness, 0.5)
    return round(red * 255), round(green * 255), round(blue * 255)


@lru_cache(maxsize=64)
def _font(height: int) -> Font:
    return ImageFont.load_default(size=height)


def _caption(image: Image.Image, order: Order) -> None:
    """A strip along the lower edge: what was ordered."""
    strip = min(image.size) // 13
    font = _font(round(strip * 0.42))
    top = image.height - strip
    dark = image.crop((0, top, image.width, image.height)).point(lambda level: level * 0.35)
    image.paste(dark, (0, top))
    draw = ImageDraw.Draw(image)
    middle = top + strip // 2
    text = f"{order.size} · {order.quality} · {order.format}"
    draw.text((round(strip * 0.7), middle), text, fill=_WHITE, font=font, anchor="lm")
    draw.text((image.width - round(strip * 0.7), middle), order.model, fill=(200, 200, 200), font=font, anchor="rm")


def _write(image: Image.Image, prompt: str) -> None:
    """The prompt in the middle, as large as it fits, with a shadow that keeps it legible."""
    text = _legible(prompt)
    shorter = min(image.size)
    box = (image.width * 0.8, image.height * 0.74)
    for part in _SIZES:
        font = _font(max(8, shorter // part))
        lines = _wrapped(text, font, box[0])
        if len(lines) * shorter / part * 1.3 <= box[1]:
            break
    joined, middle = "\n".join(lines), (image.width // 2, round(image.height * 0.47))
    spacing = shorter // part * 0.3
    draw = ImageDraw.Draw(image)
    offset = max(1, shorter // 340)
    shadow = (middle[0] + offset, middle[1] + offset)
    draw.text(shadow, joined, fill=(40, 40, 40), font=font, anchor="mm", align="center", spacing=spacing)
    draw.text(middle, joined, fill=_WHITE, font=font, anchor="mm", align="center", spacing=spacing)


def _legible(prompt: str) -> str:
    """On one line and not too long; accents and long dashes go, for which Pillow's own font has no glyphs."""
    line = " ".join(prompt.split())
    shown = line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]} …"
    plain = unicodedata.normalize("NFKD", shown.translate(_SIMPLER))
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _wrapped(text: str, font: Font, width: float) -> Lines:
    """Lines no wider than `width`; a word that is wider by itself is broken."""
    per_line = max(1, int(width / (font.getlength(text) / len(text)))) if text else 1
    lines = textwrap.wrap(text, per_line)
    while per_line > 1 and any(font.getlength(line) > width for line in lines):
        per_line -= max(1, per_line // 16)
        lines = textwrap.wrap(text, per_line)
    return lines


def _card(size: tuple[int, int]) -> Image.Image:
    """The opaque part of a transparent image: a card with round corners."""
    mask = Image.new("L", size)
    edge = min(size) // 80
    ImageDraw.Draw(mask).rounded_rectangle((edge, edge, size[0] - edge, size[1] - edge), radius=edge * 6, fill=255)
    return mask
