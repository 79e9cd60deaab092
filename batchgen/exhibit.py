"""A run as its page knows it, the one that is written down and the one that is served: JSON, built from the ledger."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from batchgen import books, charts, report
from batchgen.album import Closeup, Frame, Picture, Sending, Strip
from batchgen.charts import Beat, Share
from batchgen.folder import Folder
from batchgen.report import Object, usd
from batchgen.shelf import Shelf
from batchgen.task import Params, Variant, canonical

STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)  # seconds
BEATS_MOST = 60  # steps that a plot shows
SAMPLE = "sample"  # what samples are called as an axis
SAID_MOST = 300  # letters of an error in the grid; all of it stands beside its attempt
Spec = Mapping[str, str]
"""What tells a variant from others, each value as text."""


def head(folder: Folder) -> Object:
    """All but the rows: the report, the axes and what each of their values came to, the figures over time."""
    told = report.build(folder.ledger)
    with books.reading(folder.ledger) as db:
        variants, shares, samples = Shelf(db).variants(), charts.shares(db), charts.samples(db)
        step = _step(charts.worked(db))
        step, beats = _coarser(step, charts.beats(db, step))
        unknown = charts.doubtful(db)
    axes = _axes(variants, shares)
    run = folder.path.absolute()
    return {
        "job": told["job"],
        "run": str(run),
        "redo": f"batchgen redo {shlex.quote(str(run))}",
        "report": told,
        "unknown": unknown,
        "axes": [*(_axis(name, values, variants, shares) for name, values in axes.items()), *_samples(samples)],
        "variants": {f"{id}": _variant(each, axes, id in shares) for id, each in variants.items()},
        "beats": {"step": step, "rows": [[each.at, each.images, usd(each.low), usd(each.high)] for each in beats]},
    }


def _step(worked: float) -> int:
    """The finest one of which a plot can show all."""
    return next((step for step in STEPS if worked / step <= BEATS_MOST), STEPS[-1])


def _coarser(step: int, beats: list[Beat]) -> tuple[int, list[Beat]]:
    """The beats in steps so large that a plot can show them: what was adopted may lie between runs."""
    for wider in STEPS[STEPS.index(step) + 1 :]:
        if len(beats) <= 2 * BEATS_MOST:
            break
        together: dict[int, list[Beat]] = {}
        for each in beats:
            together.setdefault(each.at // wider * wider, []).append(each)
        step, beats = wider, [_sum(at, some) for at, some in together.items()]
    return step, beats


def _sum(at: int, beats: Sequence[Beat]) -> Beat:
    images, low, high = (sum(getattr(each, name) for each in beats) for name in ("images", "low", "high"))
    return Beat(at, images, low, high)


def _axes(variants: Mapping[int, Variant], wanted: Iterable[int]) -> dict[str, list[str]]:
    """What varies and its values, as they were first asked for: the axes, and what rows set beside them.

    What is wanted now comes first.
    """
    ids = [*wanted, *(id for id in variants if id not in {*wanted})]
    now = [variants[id] for id in wanted]
    names = dict.fromkeys(name for each in now or variants.values() for name, _ in each.axes)
    names |= dict.fromkeys(_beside(now))
    specs = [_spec(variants[id]) for id in ids]
    return {name: [*dict.fromkeys(spec[name] for spec in specs if name in spec)] for name in names}


def _beside(variants: Sequence[Variant]) -> Iterator[str]:
    """What differs between variants of which all axes are the same: the rows set it."""
    ordered = sorted(variants, key=lambda each: canonical(each.axes))
    for _, some in groupby(ordered, key=lambda each: each.axes):
        specs = [_spec(each) for each in some]
        for name in dict.fromkeys(name for spec in specs for name in spec):
            if len({spec.get(name) for spec in specs}) > 1:
                yield name


def _spec(variant: Variant) -> Spec:
    own = {"provider": variant.provider, "model": variant.model, "operation": str(variant.operation)}
    return {**own, **_texts(variant.params), **_texts(variant.axes)}


def matching(variants: Mapping[int, Variant], axes: Mapping[str, str]) -> frozenset[int]:
    """Those that have these values, by axis."""
    specs = {id: _spec(variant) for id, variant in variants.items()}
    return frozenset(id for id, spec in specs.items() if all(spec.get(name, "") == axes[name] for name in axes))


def _texts(params: Params) -> dict[str, str]:
    return {name: value if isinstance(value, str) else canonical(value) for name, value in params}


def _variant(variant: Variant, axes: Mapping[str, Sequence[str]], wanted: bool) -> Object:
    """`at` is where its value stands on each axis; -1: it has none."""
    spec = _spec(variant)
    at = [values.index(spec[name]) if name in spec else -1 for name, values in axes.items()]
    params = _texts(variant.params)
    own = {"provider": variant.provider, "model": variant.model, "operation": str(variant.operation)}
    return {**own, "params": params, "at": at, "wanted": wanted}


def _axis(name: str, values: Sequence[str], variants: Mapping[int, Variant], shares: Mapping[int, Share]) -> Object:
    """An axis, and what each of its values that is wanted came to."""
    owners: dict[str, list[Share]] = {}
    for id, share in shares.items():
        owners.setdefault(_spec(variants[id]).get(name, ""), []).append(share)
    return {"name": name, "values": values, "figures": [_figures(value, some) for value, some in owners.items()]}


def _samples(numbers: Sequence[int]) -> list[Object]:
    """Samples as an axis, where there are several."""
    axis = {"name": SAMPLE, "values": [f"{each}" for each in numbers], "figures": [], "samples": True}
    return [axis] if len(numbers) > 1 else []


def _figures(value: str, shares: Sequence[Share]) -> Object:
    states, tenths = Counter[str](), Counter[int]()
    for share in shares:
        states.update(share.states)
        tenths.update(share.spent.tenths)
    unpriced = sum(share.spent.unpriced for share in shares)
    return {
        "value": value,
        "tasks": sum(states.values()),
        "states": dict(states),
        "images": sum(share.images for share in shares),
        "low": usd(sum(share.spent.low for share in shares)),
        "high": None if unpriced else usd(sum(share.spent.high for share in shares)),
        "seconds": [each / 10 for each in quantiles(tenths, (0.1, 0.5, 0.9))],
    }


def quantiles(counts: Mapping[int, int], shares: Sequence[float]) -> list[int]:
    """The values below which so large a share of them lies; nothing where there are none."""
    found, total, ordered = list[int](), sum(counts.values()), sorted(counts)
    for share in shares if total else ():
        passed = 0
        for value in ordered:
            passed += counts[value]
            if passed >= share * total:
                found.append(value)
                break
    return found


def row(strip: Strip, twins: Mapping[str, int]) -> Object:
    """One row of the grid; `twins` are the hashes that several images have."""
    tasks = [_task(frame, twins) for frame in strip.frames]
    return _filled({"text": strip.text, "names": strip.names, "inputs": strip.inputs, "tasks": tasks})


def _task(frame: Frame, twins: Mapping[str, int]) -> Object:
    """A task in the grid; what is usual is left out."""
    fate = frame.fate
    return {
        "seq": frame.seq,
        "key": frame.key,
        "variant": frame.variant,
        "state": str(frame.state),
        **({"sample": frame.sample} if frame.sample != 1 else {}),
        **({"take": frame.take} if frame.take != 1 else {}),
        **({"wanted": frame.wanted} if frame.wanted != "yes" else {}),
        "low": usd(fate.low),
        "high": None if fate.unpriced else usd(fate.high),
        **_filled(
            {
                "attempts": fate.attempts,
                "unknown": fate.unknown,
                "seconds": _seconds(fate.seconds),
                "code": fate.code,
                "said": fate.said[:SAID_MOST],
                "images": [image(each, twins) for each in frame.pictures],
            }
        ),
    }


def image(picture: Picture, twins: Mapping[str, int]) -> Object:
    """A saved image; `same` others have its very bytes."""
    same = twins.get(picture.sha256, 1) - 1
    return {
        "id": picture.id,
        "path": picture.path,
        "sha256": picture.sha256,
        "bytes": picture.bytes,
        "format": picture.format,
        "width": picture.width,
        "height": picture.height,
        **_filled({"index": picture.index, "revised": picture.revised, "same": same}),
    }


def closeup(found: Closeup) -> Object:
    """What else there is of a task."""
    return {
        "sendings": [_sending(each) for each in found.sendings],
        "flawed": [{"index": each.index, "state": str(each.state), "note": each.note} for each in found.flawed],
        "replaces": found.replaces,
    }


def _sending(found: Sending) -> Object:
    money = {"low": found.low, "high": found.high}
    return {
        "id": found.id,
        "state": str(found.state),
        "sent_at": found.sent_at,
        **{name: None if value is None else usd(value) for name, value in money.items()},
        **_filled(
            {
                "seconds": _seconds(found.seconds),
                "status": found.status,
                "code": found.code,
                "said": found.said,
                "request_id": found.request_id,
                "tokens_in": found.tokens_in,
                "tokens_out": found.tokens_out,
            }
        ),
    }


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _filled(values: Mapping[str, object]) -> Object:
    """Without what is empty: there may be a hundred thousand of it."""
    return {name: value for name, value in values.items() if value}
