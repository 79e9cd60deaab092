"""The table of what all runs found, a column for each policy."""

from collections import Counter
from collections.abc import Sequence

from .campaign import Result
from .setup import POLICIES

NAMED = ("lost", "changed", "stranger", "twice")  # kinds of violations with a line of their own


def table(results: Sequence[Result]) -> str:
    columns = {policy: [result for result in results if result.policy == policy] for policy in POLICIES}
    found = {policy: rows(mine) for policy, mine in {**columns, "all": results}.items() if mine}
    lines = [["", *found]]
    lines += [[name, *(each[name] for each in found.values())] for name in rows(results)]
    return "\n".join(f"{name:24}" + "".join(f"{cell:>16}" for cell in cells) for name, *cells in lines)


def rows(results: Sequence[Result]) -> dict[str, str]:
    found = Counter(violation.kind for result in results for violation in result.violations)
    equal = sum(result.equal for result in results)
    counts = {
        "runs": len(results),
        "kills": sum(result.kills for result in results),
        "points of a run": len({at for result in results for at in reached(result)[: result.in_run]}),
        "points of a recovery": len({at for result in results for at in reached(result)[result.in_run :]}),
        "points not reached": sum(len(result.at) - len(result.reached) for result in results),
        "charges": sum(result.charges for result in results),
        "images lost": found["lost"],
        "images changed": found["changed"],
        "charges unknown to us": found["stranger"],
        "bought twice": sum(result.twice for result in results),
        "bought twice, unlisted": found["twice"],
        "worst unknown per kill": max((result.worst for result in results), default=0),
        "other violations": sum(count for kind, count in found.items() if kind not in NAMED),
    }
    return {
        **{name: f"{count:,}" for name, count in counts.items()},
        "runs in bounds": f"{sum(result.in_bounds for result in results):,} of {len(results):,}",
        "runs equal to the bill": f"{equal:,}",
        "slowest end": f"{max((result.lingered for result in results), default=0):.2f} s",
    }


def reached(result: Result) -> list[tuple[str, str, str]]:
    """Where it was killed; the same call of another world is another point."""
    return [(result.policy, result.what, str(point)) for point in result.reached]
