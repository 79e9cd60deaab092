"""What can be fetched: the list of models, the images behind links, and the sandbox's own books."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from batchgen.sandbox import openai
from batchgen.sandbox.order import Answer, Problem, Refused
from batchgen.sandbox.paint import media_type
from batchgen.sandbox.stats import Stats
from batchgen.sandbox.studio import Studio

_PREFIXES = ("", "/openai", "/elsewhere")  # the last is where a redirect leads: the bill shows who followed it


def application(studio: Studio) -> ASGIApp:
    """Everything that the sandbox serves."""

    async def image(request: Request) -> Response:
        if "authorization" in request.headers:  # as at a store of signed links, and no key belongs there
            return _plain(openai.refusal(Problem(400, "A link is its own key: send no Authorization header.")))
        name = request.path_params["name"]
        if name not in studio.files:
            raise HTTPException(404)
        order, number = studio.files[name]
        return Response((await studio.painter(order, number)).raw, media_type=media_type(order.format))

    async def bill(request: Request) -> Response:
        if request.query_params.get("summary"):
            return JSONResponse(studio.bill.totals())
        return Response(studio.bill.whole(), media_type="application/json")

    async def counts(_: Request) -> Response:
        return JSONResponse(stats.summary())

    routes = [Route("/files/{name}", image), Route("/__bill", bill), Route("/__stats", counts)]
    for prefix in _PREFIXES:
        routes.append(Route(f"{prefix}/v1/images/generations", studio, methods=["POST"]))
        routes.append(Route(f"{prefix}/v1/models", _models))
    stats = Stats(Starlette(routes=routes, exception_handlers={404: _no_such_url, 405: _no_such_url}))
    return stats


async def _models(request: Request) -> Response:
    try:
        openai.admit(request.headers)
    except Refused as no:
        return _plain(openai.refusal(no.problem))
    return JSONResponse(openai.catalogue())


async def _no_such_url(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 404
    return _plain(openai.refusal(Problem(status, f"Invalid URL ({request.method} {request.url.path})")))


def _plain(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers))
