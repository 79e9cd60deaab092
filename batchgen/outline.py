"""A plan as something to read: the object that scripts rely on, and its lines and table for people."""

from collections.abc import Sequence

from batchgen.consent import usd as dollars
from batchgen.costs import Money
from batchgen.deadline import clock
from batchgen.forecast import Group, Host, Plan, Way
from batchgen.report import SCHEMA_VERSION, Object, Table, usd
from batchgen.text import count, duration, size


def build(plan: Plan) -> Object:
    """The plan as one JSON object; money in USD, of what is to do."""
    survey, cost = plan.survey, plan.cost
    return {
        "schema_version": SCHEMA_VERSION,
        "job": plan.job,
        "rows": survey.rows,
        "duplicates": survey.duplicates,
        "tasks": survey.tasks,
        "images": sum(part.tasks * part.variant.images for part in survey.parts),
        "todo": survey.todo,
        "done": survey.done,
        "change": {
            "new": survey.new,
            "kept": survey.kept,
            "dropped": survey.dropped,
            "replaced": survey.replaced,
            "causes": list(survey.causes),
        },
        "cost": {
            "low": usd(cost.low),
            "expected": usd(cost.expected),
            "high": usd(cost.high),
            "currency": "USD",
            "prices_as_of": plan.prices_as_of,
            "unpriced_tasks": plan.unpriced,
            "pretend": plan.pretend,
        },
        "engine": plan.engine.name,
        "ways": {way.engine: _way(way) for way in plan.ways},
        "time": {"expected_s": None if plan.seconds is None else round(plan.seconds, 1), "limited_by": plan.limited_by},
        "disk": {"expected_bytes": plan.bytes_here, "free_bytes": plan.free},
        "store": {"url": plan.store, "expected_bytes": plan.bytes} if plan.store else None,
        "hosts": [_host(host) for host in plan.hosts],
        "groups": [_group(group) for group in plan.groups],
        "warnings": list(plan.warnings),
    }


def _way(way: Way) -> Object:
    return {
        "expected": usd(way.cost.expected),
        "high": usd(way.cost.high),
        "expected_s": None if way.seconds is None else round(way.seconds, 1),
        "within_s": way.within,
    }


def _host(host: Host) -> Object:
    return {
        "provider": host.provider,
        "origin": host.origin or None,
        "key": host.key or None,
        "key_is_set": host.key_is_set,
    }


def _group(group: Group) -> Object:
    part, cost = group.part, group.cost
    return {
        "axes": dict(part.variant.axes),
        "provider": part.variant.provider,
        "model": part.variant.model,
        "operation": str(part.variant.operation),
        "tasks": part.tasks,
        "new": part.new,
        "todo": part.todo,
        "images": part.tasks * part.variant.images,
        "low": usd(cost.low) if cost else None,
        "expected": usd(cost.expected) if cost else None,
        "high": usd(cost.high) if cost else None,
    }


def table(plan: Plan) -> Table:
    """What is to do, a line for each variant, and what it costs."""
    told = [group for group in plan.groups if group.part.todo]
    axes = list(dict.fromkeys(name for group in told for name, _ in group.part.variant.axes))
    models = len({(group.part.variant.provider, group.part.variant.model) for group in told}) > 1
    operations = len({group.part.variant.operation for group in told}) > 1
    beside = [name for name, several in (("model", models), ("operation", operations)) if several and name not in axes]
    names = (*beside, *axes)
    alike: dict[tuple[object, ...], list[Group]] = {}
    for group in told:
        alike.setdefault(_named(group, names), []).append(group)
    lines = tuple((*values, *_sums(groups)) for values, groups in alike.items())
    return Table((*names, "tasks", "images", "low", "expected", "high"), lines)


def _named(group: Group, names: Sequence[str]) -> tuple[object, ...]:
    variant = group.part.variant
    values = {"model": variant.model, "operation": str(variant.operation), **dict(variant.axes)}
    return tuple(values.get(name, "") for name in names)


def _sums(groups: Sequence[Group]) -> tuple[object, ...]:
    """Tasks, images and cost of what is called the same: images to edit of several sizes, for one."""
    costs = [group.cost for group in groups if group.cost]
    cost = sum(costs, Money(0, 0, 0)) if len(costs) == len(groups) else None
    money = (usd(cost.low), usd(cost.expected), usd(cost.high)) if cost else (None,) * 3
    return (sum(group.part.todo for group in groups), sum(group.images for group in groups), *money)


def lines(plan: Plan) -> list[str]:
    """What a person wants to know before saying yes."""
    told = [f"Run      {plan.folder.absolute()} ({'resumed' if plan.resumed else 'new'})"]
    if plan.survey.rows:
        told += [_asked(plan)]
    told += [change(plan), *(f"         {cause}" for cause in plan.survey.causes)]
    if plan.survey.away:
        told += [f"         {count(plan.survey.away, 'task')} in batches at the provider: they are collected"]
    if ended := plan.survey.tasks - plan.survey.done - plan.survey.away - plan.survey.todo:
        ways = "retry tries again, redo changes prompts, drop gives up"
        told += [f"         {count(ended, 'task')} ended without an image: {ways}"]
    if plan.survey.todo:
        told += [f"Cost     {_cost(plan)}", *_ways(plan), *_budget(plan), f"Time     {_time(plan)}"]
        told += [f"Images   about {size(plan.bytes)}, to {plan.store}/images"] if plan.store else []
        told += [f"Disk     about {size(plan.bytes_here)}; {size(plan.free)} free"]
        told += [f"Asks     {_door(host)}" for host in plan.hosts]
        told += [f"Nodes    of the Ray cluster at {plan.engine.ray}, with their own keys"] if plan.engine.ray else []
        told += [f"Tells    {' and '.join(plan.tells)}"] if plan.tells else []
    return [*told, *(f"warning: {warning}" for warning in plan.warnings)]


def _asked(plan: Plan) -> str:
    survey = plan.survey
    rows = count(survey.rows, "row")
    rows += f", {survey.rows - survey.duplicates:,} distinct" if survey.duplicates else ""
    if survey.chosen is not None:
        if survey.redo:
            return f"Again    {count(survey.tasks, 'task')} of {rows}, and nothing else"
        return f"Sample   {count(survey.tasks, 'task')} of {rows}, spread over all combinations"
    return f"Wanted   {rows}, {count(survey.tasks, 'task')}"


def change(plan: Plan) -> str:
    """What is new, kept, dropped, and left to do."""
    survey = plan.survey
    cost = f" {dollars(plan.new_cost)}" if plan.new_cost else ""
    done = f"         +{survey.new:,} new{cost} · {survey.kept:,} kept · {survey.dropped:,} dropped"
    replaced = f" · {survey.replaced:,} replaced" if survey.replaced else ""
    return f"{done}{replaced} · {survey.todo:,} to do"


def _cost(plan: Plan) -> str:
    cost = plan.cost
    unpriced = f"{count(plan.unpriced, 'task')} at a price that is not known" if plan.unpriced else ""
    if not cost.high:
        return unpriced or "nothing"
    by = f"as {count(plan.answers, 'answer')} came to" if plan.answers else f"by prices of {plan.prices_as_of}"
    money = " of pretend money" if plan.pretend else ""
    told = f"about {dollars(cost.expected)}{money} ({dollars(cost.low)} to {dollars(cost.high)}), {by}"
    return f"{told}; and {unpriced}" if unpriced else told


def _ways(plan: Plan) -> list[str]:
    """The prices side by side, where there is more than one."""
    if len(plan.ways) < 2 or plan.unpriced:
        return []
    return ["Ways     " + " · ".join(_told_way(way) for way in plan.ways)]


def _told_way(way: Way) -> str:
    if way.within:
        return f"{way.engine}: {dollars(way.cost.expected)}, within {way.within / 3600:g} h"
    time = "" if way.seconds is None else f", about {duration(max(way.seconds, 1))}"
    return f"now: {dollars(way.cost.expected)}{time}"


def _budget(plan: Plan) -> list[str]:
    if plan.budget is None:
        return []
    short = "; it will not be enough" if plan.cost.expected > plan.budget - plan.spent else ""
    return [f"Budget   {dollars(plan.budget)} for the whole job, of which {dollars(plan.spent)} is spent{short}"]


def _time(plan: Plan) -> str:
    span = plan.span
    stops = f"{span.until.text} (limits.until)" if span.until else ""
    if span.seconds is None:
        return f"{span.limited_by}; until {stops} at most" if stops else span.limited_by
    if span.left:
        return f"until {stops}, in {duration(span.seconds)}" if span.seconds else f"none: {stops} is over"
    ends = clock(span.drawn + span.seconds, span.drawn)
    return f"about {duration(max(span.seconds, 1))}, by {span.limited_by}; ends about {ends}"


def _door(host: Host) -> str:
    if not host.origin:
        return f"{host.provider}: the sandbox on this machine, no key"
    key = f"with the key in {host.key}" + ("" if host.key_is_set else " (not set: export it)") if host.key else "no key"
    return f"{host.provider}: {host.origin}, {key}"
