"""What is asked of each provider: an operation, a delivery, and the manifest that asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw

OTTER = "A sea otter on its back"
FILES: Mapping[str, object] = {"images": ["otter.jpg"], "mask": "hole.png"}
TWO: Mapping[str, object] = {"images": ["otter.jpg", "reef.png"]}
ONE: Mapping[str, object] = {"images": ["otter.jpg"]}
LINKED: Mapping[str, object] = {"images": ["https://pictures.example/otter.png", "reef.png"]}


@dataclass(frozen=True, slots=True)
class Case:
    """`inputs` are keys of the source, `request` parameters; each case makes two tasks."""

    provider: str
    operation: str
    delivery: str
    model: str
    inputs: Mapping[str, object] = field(default_factory=dict)
    request: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.provider}-{self.operation}-{self.delivery}".replace(" ", "-")

    def manifest(self, provider: object) -> dict[str, object]:
        prompts = [f"{OTTER}, {light}" for light in ("at dawn", "at noon")]
        source = {"prompt": "{{ words }}", "vars": {"words": prompts}, "operation": self.operation, **self.inputs}
        return {
            "name": self.name,
            "provider": provider,
            "model": self.model,
            "prompts": [source],
            "request": dict(self.request),
            "limits": {"concurrency": 4, "budget": 5},
        }


URL = {"response_format": "url"}
SMALL = {"size": "512x512"}
STREAM = {"stream": True, "partial_images": 2}

CASES = (
    Case("openai", "generate", "b64", "gpt-image-2", request={"quality": "low", "n": 2}),
    Case("openai", "generate", "stream", "gpt-image-2", request={"quality": "low", **STREAM}),
    Case("openai", "edit", "b64", "gpt-image-2", FILES, {"quality": "low", "size": "match"}),
    Case("openai", "edit", "b64 json", "gpt-image-2", LINKED, {"quality": "low"}),
    Case("openai", "edit", "stream", "gpt-image-2", TWO, {"quality": "low", **STREAM}),
    Case("openai", "vary", "b64", "gpt-image-2", ONE),
    Case("aimlapi", "generate", "b64", "openai/gpt-image-1", request={"quality": "low"}),
    Case("aimlapi", "generate", "url", "openai/gpt-image-1", request={"quality": "low", **URL}),
    Case("aimlapi", "edit", "b64", "openai/gpt-image-1", FILES, {"n": 2}),
    Case("aimlapi", "edit", "url", "openai/gpt-image-1-5", TWO, {"size": "match", **URL}),
    Case("onerouter", "generate", "b64", "gpt-image-1", request={"quality": "low"}),
    Case("onerouter", "generate", "url", "gpt-image-1", request={"quality": "low", "output_format": "url"}),
    Case("onerouter", "generate", "poll", "openai/gpt-image-2/text-to-image", request={"n": 2}),
    Case("onerouter", "edit", "b64", "gpt-image-1", TWO),
    Case("onerouter", "edit", "url", "gpt-image-1", LINKED, {"output_format": "url"}),
    Case("onerouter", "edit", "poll", "openai/gpt-image-2/edit", ONE),
    Case("myrouter", "generate", "b64", "gpt-image-1.5", request={"quality": "low", "n": 2}),
    Case("classic", "generate", "b64", "gpt-image-1", request={"size": "256x256"}),
    Case("classic", "generate", "url", "gpt-image-1", request={"size": "512x512", "n": 2, **URL}),
    Case("azure", "generate", "b64", "gpt-image-2", request={"output_format": "jpeg"}),
    Case("azure", "edit", "b64", "gpt-image-2", FILES),
    Case("litellm", "generate", "b64", "gpt-image-2", request={"quality": "low"}),
    Case("litellm", "edit", "b64", "gpt-image-2", TWO, {"quality": "low"}),
    Case("localai", "generate", "b64", "flux.1-schnell", request=SMALL),
    Case("localai", "generate", "url", "flux.1-schnell", request={**SMALL, **URL}),
    Case("localai", "edit", "b64", "flux.1-fill", FILES, SMALL),
    Case("vllm", "generate", "b64", "qwen-image", request=SMALL),
    Case("vllm", "edit", "b64", "qwen-image-edit", FILES, SMALL),
    Case("sglang", "generate", "b64", "qwen-image", request=SMALL),
    Case("sglang", "generate", "url", "qwen-image", request={**SMALL, **URL}),
    Case("sglang", "edit", "b64", "qwen-image-edit", TWO, SMALL),
)


def lay_out(folder: Path) -> None:
    """The files that the cases edit: a photo that a camera stored lying down, another picture, a mask with a hole."""
    photo = Image.effect_noise((96, 64), 80).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right to see it: 64 wide, 96 high
    photo.save(folder / "otter.jpg", exif=exif)
    Image.effect_noise((80, 80), 80).save(folder / "reef.png")
    hole = Image.new("RGBA", (64, 96), (0, 0, 0, 255))
    ImageDraw.Draw(hole).ellipse((16, 24, 48, 72), fill=(0, 0, 0, 0))
    hole.save(folder / "hole.png")
