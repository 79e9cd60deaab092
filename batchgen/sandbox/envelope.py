"""OpenAI's envelope for errors, which many others borrowed: its shape, and what is said in it."""

from dataclasses import replace

from batchgen.sandbox.dialect import respond
from batchgen.sandbox.mistake import Mistake, kind
from batchgen.sandbox.order import Answer, Asked, Problem

ORGANIZATION = "org-sandbox"

_RATE = Problem(
    429,
    f"Rate limit reached for {{model}} (for limit gpt-image) in organization {ORGANIZATION} on input-images"
    " per min: Limit {limit}, Used {used}, Requested {n}. Please try again in {wait}.",
    "input-images",
    code="rate_limit_exceeded",
)

WORDS = {
    "429": _RATE,
    "429-header": replace(_RATE, headers={"retry-after": "1"}),
    "quota": Problem(
        429,
        "You have no credit left. Retrying does not restore access: add credit to your account.",
        "insufficient_quota",
        code="credit_balance_exhausted",
    ),
    "billing": Problem(
        400, "Billing hard limit has been reached.", "image_generation_user_error", code="billing_hard_limit_reached"
    ),
    "401": Problem(401, "Incorrect API key provided: sk-****.", code="invalid_api_key"),
    "403": Problem(
        403,
        "Your organization must be verified to use the model `{model}`. Please go to:"
        " https://platform.openai.com/settings/organization/general and click on Verify Organization.",
    ),
    "400": Problem(400, "Invalid value: the request cannot be carried out.", param="prompt", code="invalid_value"),
    "500": Problem(500, "The server had an error while processing your request.", "server_error", code="server_error"),
    "503-retry": Problem(
        503,
        "The server is overloaded. Please try again later.",
        "server_error",
        code="server_is_overloaded",
        headers={"retry-after": "1"},
    ),
    "echo": Problem(
        400, "Invalid header: 'Authorization: {authorization}'.", param="authorization", code="invalid_value"
    ),
    "unsafe": Problem(
        400,
        "Your request was rejected by the safety system. If you believe this is an error, contact support.",
        "image_generation_user_error",
        code="moderation_blocked",
    ),
    "model": Problem(
        404, "The model '{model}' does not exist or you do not have access to it.", code="model_not_found"
    ),
}


def mistake(wrong: Mistake) -> Problem:
    codes = {"missing": "missing_required_parameter", "unknown": "unknown_parameter"}
    return Problem(400, sentence(wrong), param=wrong.name, code=codes.get(wrong.kind, "invalid_value"))


def sentence(wrong: Mistake) -> str:
    name, given = wrong.name, wrong.given
    match wrong.kind:
        case "missing":
            return f"Missing required parameter: '{name}'."
        case "unknown":
            return f"Unknown parameter: '{name}'."
        case "type":
            return f"Invalid type for '{name}': expected {wrong.expected}, but got {kind(given)} instead."
        case "short":
            return f"Invalid '{name}': empty string. Expected at least {wrong.least} character."
        case "long":
            return (
                f"Invalid '{name}': string too long. Expected at most {wrong.most} characters,"
                f" but got {len(str(given))}."
            )
        case "choice":
            quoted = ", ".join(f"'{known}'" for known in wrong.values[:-1])
            return f"Invalid value: {given!r}. Supported values are: {quoted}, and '{wrong.values[-1]}'."
        case "range":
            return f"Invalid '{name}': expected a value from {wrong.least} to {wrong.most}, but got {given} instead."
    return wrong.expected


def refusal(problem: Problem, asked: Asked) -> Answer:
    error = {"message": problem.message, "type": problem.type, "param": problem.param, "code": problem.code}
    return respond({"error": {**error, **problem.details}}, problem.status, problem.headers)
