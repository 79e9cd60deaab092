"""Whether a run may spend: what must be asked first, and what cannot be bounded at all."""

from batchgen.costs import NANO
from batchgen.errors import UsageError
from batchgen.forecast import Plan
from batchgen.terms import Limits
from batchgen.text import count

UNASKED = 1 * NANO  # nano-dollars that a run may spend without a question


def question(plan: Plan, limits: Limits, terminal: bool, yes: bool = False) -> str:
    """What a person must say yes to before anything is sent; "" where nothing need be asked.

    UsageError where nobody could bound the bill: a price that is not known without `limits.images`, or no budget and
    nobody there to ask.
    """
    if plan.pretend or not (plan.survey.todo or plan.rest):
        return ""
    if plan.unpriced and limits.images is None:
        raise UsageError(_unpriced(plan))
    if not terminal:
        if limits.budget is None and plan.cost.high + plan.rest:
            raise UsageError(
                f"this run may spend up to {usd(at_most(plan, limits))}, and there is no terminal to ask at: "
                "give --budget USD (in Python budget=), or limits.budget in the manifest"
            )
        return ""
    most = at_most(plan, limits)
    if yes or (most <= UNASKED and not plan.unpriced):
        return ""
    unknown = f", and {count(plan.unpriced, 'task')} at a price that is not known" if plan.unpriced else ""
    about = min(plan.cost.expected, most)
    return f"Spend about {usd(about)}, at most {usd(most)}{unknown}?"


def at_most(plan: Plan, limits: Limits) -> int:
    """What the run may spend, nano-dollars: the highest price of all that is to do, and of what may be bought again.

    But never more than the budget has left.
    """
    most = plan.cost.high + plan.rest + plan.again
    return most if limits.budget is None else min(most, max(0, limits.budget - plan.spent))


def _unpriced(plan: Plan) -> str:
    part = next(group.part for group in plan.groups if group.cost is None and group.part.todo)
    return (
        f"what {part.variant.model} costs at {part.variant.provider} is not known, so no budget can hold. "
        "Give the provider a price (provider: {…, price: {image: 0.04}}), or set limits.images."
    )


def usd(nano: float) -> str:
    """USD for people: cents where they matter, more places where an amount is small."""
    amount = nano / NANO
    return f"${amount:,.2f}" if amount == 0 or abs(amount) >= 1 else f"${amount:.4f}"
