"""Every provider × operation × delivery of the catalog, against the sandbox: images on the disk, books that agree."""

import hashlib

import pytest
from dialects.cases import CASES, Case, lay_out
from world import KEY_ENV, World

DEAREST = {"text_in": 5, "image_in": 10, "image_out": 40}
PRICES = {
    "gpt-image-1": DEAREST,
    "gpt-image-1.5": {**DEAREST, "image_in": 8, "image_out": 32},
    "gpt-image-2": {**DEAREST, "image_in": 8, "image_out": 30},
}
"""What the sandbox charges; who names the price in the answer, and who runs on a machine of one's own, needs none."""


def provider(world: World, name: str) -> dict[str, object]:
    """The sandbox, speaking like a provider of the catalog."""
    origin = world.sandbox.url.removesuffix("/v1")
    url = f"{origin}/{name}/v1"
    return {"name": "pretend", "dialect": name, "base_url": url, "api_key_env": KEY_ENV, "links": ["127.0.0.1"]}


FREE = ("localai", "vllm", "sglang")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_operation_brings_what_was_asked_for(case: Case, world: World) -> None:
    lay_out(world.folder)
    priced = {"price": PRICES.get(case.model.rpartition("/")[2], {"image": 0} if case.provider in FREE else DEAREST)}
    asked = case.manifest({**provider(world, case.provider), **priced})
    ended = world.run(**{**asked, "name": "otters"})
    assert (ended.exit_code, ended.reason) == (0, "all done")
    charges = world.charges()
    assert [(each["dialect"], each["operation"]) for each in charges] == [(case.provider, case.operation)] * 2
    images = 2 * int(str(case.request.get("n", 1)))
    assert len(world.files()) == images == sum(each["images"] for each in charges)
    sent = [hashlib.sha256((world.folder / name).read_bytes()).hexdigest() for name in ("otter.jpg", "reef.png")]
    names = case.inputs.get("images", ())
    assert isinstance(names, list | tuple)
    expected = [sent[("otter.jpg", "reef.png").index(name)] if "://" not in name else f"link:{name}" for name in names]
    assert [each["inputs"] for each in charges] == [expected] * 2
    assert [bool(each["mask"]) for each in charges] == ["mask" in case.inputs] * 2
    if case.provider not in FREE:  # there the sandbox's bill is nobody's
        world.check_books()
