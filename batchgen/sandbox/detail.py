"""FastAPI's shape of errors: `{"detail": …}`, a sentence or a list of what is wrong with the parameters."""

from dataclasses import replace

from batchgen.sandbox import envelope
from batchgen.sandbox.dialect import respond
from batchgen.sandbox.mistake import Mistake
from batchgen.sandbox.order import Answer, Asked, Problem

WORDS = {
    **envelope.WORDS,
    "429": replace(envelope.WORDS["429"], message="Too many requests. Please try again in {wait}."),
    "429-header": replace(envelope.WORDS["429-header"], message="Too many requests. Please try again in {wait}."),
    "quota": Problem(402, "Insufficient balance: please top up your account."),
    "billing": Problem(402, "Insufficient balance: please top up your account."),
    "403": Problem(403, "You have no access to the model {model}."),
    "model": Problem(404, "Model {model} not found."),
}


def mistake(wrong: Mistake) -> Problem:
    kind, message = _words(wrong)
    loc = ["body", *wrong.name.split(".")]
    return Problem(422, message, details={"detail": [{"type": kind, "loc": loc, "msg": message}]})


def _words(wrong: Mistake) -> tuple[str, str]:
    """Pydantic's name of it, and its sentence."""
    match wrong.kind:
        case "missing":
            return "missing", "Field required"
        case "unknown":
            return "extra_forbidden", "Extra inputs are not permitted"
        case "type":
            noun = {"a string": "string", "an integer": "int", "a boolean": "bool", "an array": "list"}[wrong.expected]
            return f"{noun}_type", f"Input should be a valid {wrong.expected.split()[1]}"
        case "short":
            return "string_too_short", f"String should have at least {wrong.least} character"
        case "long":
            return "string_too_long", f"String should have at most {wrong.most} characters"
        case "choice":
            quoted = [f"'{value}'" for value in wrong.values]
            either = " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))
            return "literal_error", f"Input should be {either}"
        case "range" if isinstance(wrong.given, int) and wrong.given > wrong.most:
            return "less_than_equal", f"Input should be less than or equal to {wrong.most}"
        case "range":
            return "greater_than_equal", f"Input should be greater than or equal to {wrong.least}"
    return "value_error", f"Value error, {wrong.expected}"


def refusal(problem: Problem, asked: Asked) -> Answer:
    """Where the details name a whole body, it is that."""
    fields = problem.details if {"detail", "code"} & set(problem.details) else {"detail": problem.message}
    return respond(fields, problem.status, problem.headers)
