"""What the sandbox serves: every dialect under its name, the files, and the sandbox's own books."""

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from batchgen.sandbox import aimlapi, classic, hosts, myrouter, onerouter, openai, openapi
from batchgen.sandbox.batch_pages import Desk
from batchgen.sandbox.dialect import Dialect, respond
from batchgen.sandbox.order import Answer, Problem, Refused
from batchgen.sandbox.stats import Stats
from batchgen.sandbox.studio import Counter, Studio, arrived
from batchgen.sandbox.tasks import Task

DIALECTS = (openai.DIALECT, aimlapi.DIALECT, onerouter.DIALECT, myrouter.DIALECT, classic.DIALECT, *hosts.ALL)
_ELSEWHERE = "/elsewhere"  # where redirects lead: the bill shows who followed one


def application(studio: Studio, desk: Desk, port: int) -> ASGIApp:
    """Everything; what arrives at another port than this one is for the files."""

    async def counts(_: Request) -> Response:
        return JSONResponse(stats.summary())

    provider = Starlette(
        routes=[Route("/__stats", counts), *_books(studio, desk), *_dialects(studio, desk)],
        exception_handlers={404: _no_such_url, 405: _no_such_url},
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await (provider if scope["server"][1] == port else studio.files)(scope, receive, send)

    stats = Stats(serve)
    return stats


def _books(studio: Studio, desk: Desk) -> Iterator[Route]:
    async def bill(request: Request) -> Response:
        if request.query_params.get("summary"):
            return JSONResponse(studio.bill.totals())
        return Response(studio.bill.whole(), media_type="application/json")

    async def fetches(_: Request) -> Response:
        return JSONResponse(studio.files.fetches())

    async def batches(_: Request) -> Response:
        return JSONResponse(desk.all())

    yield Route("/__bill", bill)
    yield Route("/__batches", batches)
    yield Route("/__fetches", fetches)


def _dialects(studio: Studio, desk: Desk) -> Iterator[Route]:
    for dialect in DIALECTS:
        yield from _dialect(studio, desk, dialect, f"/{dialect.name}")
        yield from _dialect(studio, desk, dialect, f"{_ELSEWHERE}/{dialect.name}")
    for prefix in ("", _ELSEWHERE):
        yield from _dialect(studio, desk, openai.DIALECT, prefix)


def _dialect(studio: Studio, desk: Desk, dialect: Dialect, prefix: str) -> Iterator[Route]:
    async def models(request: Request) -> Response:
        return _response(_admitted(request, dialect) or respond(dialect.catalogue()))

    async def document(request: Request) -> Response:
        return JSONResponse(openapi.document(dialect, str(request.base_url).rstrip("/")))

    async def task(request: Request) -> Response:
        return _response(_admitted(request, dialect) or _polled(studio.tasks.get(request.path_params["id"])))

    for operation in dialect.operations:
        yield Route(f"{prefix}/v1/{operation.path}", Counter(studio, dialect, operation), methods=["POST"])
    yield Route(f"{prefix}/v1/models", models)
    yield Route(f"{prefix}/openapi.json", document)
    if dialect.tasks:
        yield Route(f"{prefix}/v1/images/tasks/{{id}}", task)
    if dialect.batches:
        yield from desk.routes(prefix)


def _polled(task: Task | None) -> Answer:
    if task is None:  # said with a good status
        return respond({"code": 404, "message": "task not found"})
    return respond({"code": 200, "message": "success", "data": task.poll()})


def _admitted(request: Request, dialect: Dialect) -> Answer | None:
    """What is said to one who has no key."""
    asked = arrived(request.scope)
    try:
        dialect.lock.admit(asked)
    except Refused as no:
        return dialect.refusal(no.problem, asked)
    return None


async def _no_such_url(request: Request, problem: Exception) -> Response:
    """In the words of the dialect whose name the path begins with."""
    path = request.url.path
    dialect = next((each for each in DIALECTS if path.startswith(f"/{each.name}/")), openai.DIALECT)
    status = problem.status_code if isinstance(problem, HTTPException) else 404
    said = Problem(status, f"Invalid URL ({request.method} {path})")
    return _response(dialect.refusal(said, arrived(request.scope)))


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers))
