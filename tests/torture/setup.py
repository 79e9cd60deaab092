"""What is bought in a tortured world, on which terms, and from how bad a provider."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from PIL import Image

POLICIES = ("hold", "retry", "idempotent")
PRICE = {"text_in": 5, "image_in": 8, "image_out": 30}  # what the sandbox charges; some of its dialects do not tell
CUT = ("--faults", "cut=0.1")
LINKS = ("--delivery", "url")
LARGE = ("--paint-bytes", "300000")  # answers that are streamed to the disk
BAD_LINKS = (*LINKS, "--file-faults", "500 cut ok truncate html 404 ok redirect cut 403 500 truncate ok cut html")
HOSTILE = ("cut", "cut-before", "truncate", "502", "500-html", "500", "html", "empty", "badjson", "badpng", "429")
KEPT = ("cut", "truncate", "html", "badpng", "429")  # a provider that keeps answers keeps its failures, too
KEY_ENV = "TORTURE_KEY"
POLL = 0.05  # seconds between two looks at a batch
CREATES = "create=cut create=cut-before create=500 create=cut create=503 create=429"
CALLS = (
    "upload=cut upload=503 upload=cut-before batch=cut batch=500 batches=cut files=cut content=cut content=truncate"
    " content=norange content=503 content=garbage delete=cut delete=500 cancel=cut cancel=503"
)
LINES = (
    "missing torn ok badpng duplicate foreign line-500 line-429 dies dies-empty invalid nousage late-files empty-errors"
)


@dataclass(frozen=True, slots=True)
class Setup:
    """An order and its terms; `flags` are the sandbox's, `ware` is the kind of what is ordered.

    The tasks and the requests that are open at once are shared out among `lanes` providers, all of them that server.
    `ends` are states in which a task may be left, beside `done`, and `held` where that is the policy. `lines` are the
    most of a batch (0: every request is sent by itself), `batching` the seconds after which there are no more batches.
    A run that takes more than `patience` seconds hangs.
    """

    tasks: int = 60
    workers: int = 8
    lanes: int = 1
    images: int = 1
    latency: float = 0.03
    policy: str = "retry"
    ware: str = "plain"
    budget: float = 1000.0  # USD
    attempts: int = 50  # more than is ever needed: what ends for want of tries has not converged
    ends: tuple[str, ...] = ()
    lines: int = 0
    patience: float = 60.0
    batching: float = 0.0
    flags: tuple[str, ...] = ()

    @property
    def hold(self) -> bool:
        return self.policy == "hold"

    @property
    def keyed(self) -> bool:
        """Whether the provider honours idempotency keys, and is asked to."""
        return self.policy == "idempotent"

    @property
    def serving(self) -> tuple[str, ...]:
        """All flags of the server; one that is given twice counts as given last."""
        small = ("--paint", "cached", "--paint-bytes", "20000", "--latency", str(self.latency))
        return (*small, *(("--idempotent", "86400") if self.keyed else ()), *self.flags)

    def on(self, policy: str) -> "Setup":
        return replace(self, policy=policy)


def hostile(policy: str) -> Setup:
    """Every tenth request and more meets some fault; some answers tell no usage."""
    each = [f"{name}=0.02" for name in (KEPT if policy == "idempotent" else HOSTILE)]
    return Setup(policy=policy, flags=("--faults", ",".join((*each, "nousage=0.05"))))


def of_kills(policy: str) -> tuple[Setup, ...]:
    """The worlds of the random kills, one after the other by seed."""
    setups = (
        Setup(),
        Setup(flags=CUT),
        Setup(flags=LINKS),
        Setup(images=2, flags=LARGE),
        Setup(flags=(*CUT, *LINKS, *LARGE)),
        Setup(lanes=2, flags=(*CUT, *LINKS)),
        Setup(ware="polled"),
        Setup(ware="polled", images=2, flags=CUT),
        Setup(ware="edit", flags=CUT),
        Setup(ware="stream", flags=(*CUT, *LARGE)),
        Setup(images=2, flags=(*CUT, *BAD_LINKS)),
        Setup(budget=0.25, ends=("todo",), flags=CUT),
        Setup(attempts=2, ends=("held", "failed"), flags=("--faults", "cut=0.15,500=0.15")),
        hostile(policy),
    )
    return tuple(setup.on(policy) for setup in setups)


def of_batches(policy: str) -> tuple[Setup, ...]:
    """The worlds of the batches, likewise."""
    plain = Setup(tasks=24, workers=4, lines=8, flags=("--batch-rate", "15", "--batch-validating", "0.1"))
    faulty = {name: (*plain.flags, "--batch-call-faults", name) for name in (CREATES, CALLS, f"{CREATES} {CALLS}")}
    setups = (
        plain,
        replace(plain, flags=faulty[CREATES]),
        replace(plain, ware="edit", flags=faulty[CALLS]),
        replace(plain, flags=(*plain.flags, "--batch-faults", LINES)),
        replace(plain, batching=2.5, flags=(*plain.flags, *CUT, "--batch-rate", "10")),
        replace(plain, images=2, flags=(*plain.flags, *LARGE)),
        replace(plain, flags=(*plain.flags, "--batch-window", "1", "--batch-slow", "0.3", "--batch-slow-seconds", "9")),
        replace(plain, lanes=2, ware="edit", flags=faulty[f"{CREATES} {CALLS}"]),
        replace(plain, flags=(*plain.flags, *LINKS, "--no-ranges")),
        replace(plain, batching=3, ware="edit", flags=(*faulty[CALLS], "--batch-cancelling", "0.3")),
        replace(plain, budget=0.06, ends=("todo",), flags=(*plain.flags, "--batch-faults", "ok missing dies")),
        replace(plain, lines=5, flags=(*plain.flags, "--batch-tokens", "120", "--batch-tokens-at", "create")),
        replace(plain, lines=5, flags=(*plain.flags, "--batch-tokens", "120", "--batch-tokens-at", "validating")),
    )
    return tuple(setup.on(policy) for setup in setups)


def of_clusters(policy: str, tasks: int) -> tuple[Setup, ...]:
    """The worlds of the clusters, by chance."""
    plain = Setup(tasks=tasks, workers=16, latency=0.1, patience=300)
    setups = (
        plain,
        replace(plain, flags=CUT),
        replace(plain, flags=(*CUT, *LINKS, *LARGE)),
        replace(plain, ware="polled", flags=CUT),
        replace(plain, ware="edit", images=2, flags=CUT),
    )
    return tuple(setup.on(policy) for setup in setups)


def of_points() -> tuple[Setup, ...]:
    """Worlds small enough to be killed at every call."""
    small = Setup(tasks=3, workers=2)
    wares = (small, replace(small, flags=LINKS), replace(small, flags=LARGE), replace(small, ware="polled"))
    return tuple(ware.on(policy) for ware in wares for policy in POLICIES)


def manifest(setup: Setup, root: str) -> dict[str, object]:
    """What is wanted, of the server at `root`; JSON is YAML."""
    provider, order = ORDERS[setup.ware]
    same: dict[str, object] = {"api_key_env": KEY_ENV, "links": ["127.0.0.1"], **provider}
    same |= {"base_url": f"{root}{same['base_url']}"} | ({"idempotency": "24h"} if setup.keyed else {})
    same |= {"batch": {"poll": POLL, "lines_most": setup.lines}} if setup.lines else {}
    words = [f"Fox number {i}" for i in range(setup.tasks // setup.lanes)]
    source = {"prompt": "{{ words }}", "vars": {"words": words}, **order.source}
    return {
        "name": "tortured",
        "model": order.model,
        "prompts": [source],
        "matrix": {"provider": [{"name": f"local-{n}", **same} for n in range(setup.lanes)]},
        "engine": engine(setup),
        "request": {"quality": "low", "n": setup.images, **order.request},
        "limits": {"concurrency": setup.workers // setup.lanes, "budget": setup.budget, "timeout": "20s"},
        "retry": {
            "attempts": setup.attempts,
            "on_unknown": "hold" if setup.hold else "retry",
            "duplicate_allowance": 100,  # more than is ever needed, too
        },
    }


def engine(setup: Setup) -> object:
    """From now on."""
    if not setup.lines:
        return "local"
    ends = datetime.now() + timedelta(seconds=setup.batching)
    return {"batch": True, "until": f"{ends:%Y-%m-%d %H:%M:%S}"} if setup.batching else "batch"


@dataclass(frozen=True, slots=True)
class Order:
    """Keys of a manifest: its model, its request, and what its source says beside the words."""

    model: str
    request: Mapping[str, object]
    source: Mapping[str, object]


OPENAI: Mapping[str, object] = {"dialect": "openai", "base_url": "/v1"}
ONEROUTER: Mapping[str, object] = {"dialect": "onerouter", "base_url": "/onerouter/v1", "price": PRICE}
SQUARE: Mapping[str, object] = {"size": "1024x1024"}
STREAM: Mapping[str, object] = {**SQUARE, "stream": True, "partial_images": 2}
EDIT: Mapping[str, object] = {"operation": "edit", "images": ["otter.png"], "mask": "hole.png"}
ORDERS: Mapping[str, tuple[Mapping[str, object], Order]] = {
    "plain": (OPENAI, Order("gpt-image-2", SQUARE, {})),
    "stream": (OPENAI, Order("gpt-image-2", STREAM, {})),
    "edit": (OPENAI, Order("gpt-image-2", SQUARE, EDIT)),
    "polled": (ONEROUTER, Order("openai/gpt-image-2/text-to-image", {}, {})),
}


def lay_out(folder: Path) -> None:
    """What the edits take in: a picture, and a mask with a hole."""
    Image.effect_noise((96, 64), 80).convert("RGB").save(folder / "otter.png")
    hole = Image.new("RGBA", (96, 64), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (16, 16, 64, 48))
    hole.save(folder / "hole.png")
