"""Objects in a bucket (S3, Google Cloud Storage, Azure Blob Storage): put only where nothing is. obstore's door."""

import errno
import logging
import mimetypes
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urlsplit

from batchgen.disk import Unsynced
from batchgen.errors import StorageError, UsageError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

KINDS = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
MISSING = "{} needs obstore: pip install obstore"
WIDE = 16  # put at a time: each waits for the network, and holds one image
RETRIES, PAUSE = 3, 2.0  # at once, within half a second; then one every so many seconds
TIMEOUT = timedelta(minutes=2)  # of a request
PAGE = 1000  # names that are listed at a time
PIECE = 8 << 20  # bytes of a large object that go at a time
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
ACCOUNTS = ("AWS_ACCESS_KEY_ID", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_NAME")
HTTP = "AWS_ALLOW_HTTP"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
CODE, STATUS = re.compile(r"<Code>([A-Za-z.]{1,60})</Code>"), re.compile(r"status code: (\d{3})")
NO_BUCKET = re.compile("<Code>NoSuchBucket<|<Code>ContainerNotFound<|The specified bucket does not exist")
FOR_NOW = {404, 408, 409, 412, 429}  # what a server may say otherwise a moment later, among its clear noes
ROLES = ("//169.254.", "//metadata.google")  # who is asked for credentials where the environment has none
NO_PATH = re.compile(r'invalid path: .*?"([^"]{1,200})"')
REGION = "incorrectly configured region"
KEPT = "Nothing that was paid for is lost: {}, then run the same command again."
T = TypeVar("T")
log = logging.getLogger("batchgen")


class Unreached(Exception):
    """No answer came, or none that says yes or no; its text is for a person."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object; of one that was put in one piece, many stores have its MD5 for a tag."""

    name: str
    bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class Objects:
    """All that lies below a URL. `patience` is for how many seconds it is tried again while it is not reached.

    `strays` are names at which something lies that nobody has a use for, as it was found out at the start of a run.
    """

    url: str
    patience: float
    _bucket: "ObjectStore" = field(repr=False)
    _prefix: str
    strays: Set[str] = frozenset()
    wide: int = WIDE

    def below(self, name: str) -> "Objects":
        return replace(self, url=f"{self.url}/{name}", _prefix=f"{self._prefix}{name}/")

    def where(self, name: str) -> str:
        return f"{self.url}/{name}"

    def put(self, name: str, data: bytes, part: str, unsynced: Unsynced, twin: str = "") -> None:
        """Durable when it returns. An earlier put may have arrived though its answer did not: the same bytes are."""

        def lies_there() -> bool:
            if self._created(name, data):
                return True
            try:
                return self._got(name, len(data) + 1) == data
            except FileNotFoundError:  # a put that nobody waits for any more is under way
                raise Unreached("an object is said to be there, and is not") from None

        if not self._asked(lies_there):
            raise FileExistsError(
                errno.EEXIST, "another image stands there, which the ledger does not know", self.where(name)
            )

    def keeps(self, name: str, data: bytes) -> bool:
        """Whether what is there stays there when it is put again: some stores take no notice of the condition."""
        return not self._asked(lambda: self._created(name, data))

    def _created(self, name: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        kind = mimetypes.guess_type(name)[0]
        attributes = {"Content-Type": kind} if kind else None
        try:
            obstore.put(self._bucket, self._key(name), data, attributes=attributes, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def read(self, name: str, most: int | None = None) -> bytes:
        """All of it, or its first `most` bytes; FileNotFoundError where nothing lies there."""
        return self._asked(lambda: self._got(name, most), name)

    def _got(self, name: str, most: int | None) -> bytes:
        import obstore

        found = obstore.get(self._bucket, self._key(name))
        if most is None or found.meta["size"] <= most:
            return bytes(found.bytes())
        return bytes(obstore.get_range(self._bucket, self._key(name), start=0, length=most))

    def size(self, name: str) -> int | None:
        import obstore

        try:
            return self._asked(lambda: obstore.head(self._bucket, self._key(name))["size"], name)
        except FileNotFoundError:
            return None

    def made_at(self, name: str) -> float:
        """When it was put there."""
        import obstore

        return self._asked(lambda: obstore.head(self._bucket, self._key(name))["last_modified"].timestamp(), name)

    def names(self, prefix: str = "") -> Iterator[str]:
        """Everything below a folder, all of it without one."""
        return (each.name for each in self.listed(prefix))

    def listed(self, prefix: str = "") -> Iterator[Listed]:
        """The same, with what a store tells of each."""
        import obstore

        last, pages = "", None

        def more() -> "Sequence[ObjectMeta]":
            nonlocal pages
            where = f"{self._prefix}{prefix}" or None
            pages = pages or obstore.list(self._bucket, where, offset=last or None, chunk_size=PAGE)
            stream, pages = pages, None  # one that failed is over: it would say that there is no more
            found = next(stream, ())
            pages = stream
            return found

        while page := self._asked(more):
            yield from (
                Listed(each["path"].removeprefix(self._prefix), each["size"], (each["e_tag"] or "").strip('"'))
                for each in page
                if each["path"].startswith(self._prefix)  # else it is what consoles put there to show a folder
            )
            last = page[-1]["path"]

    def remove(self, name: str) -> None:
        import obstore

        with suppress(FileNotFoundError):
            self._asked(lambda: obstore.delete(self._bucket, self._key(name)), name)

    def replace(self, name: str, data: bytes | Path) -> None:
        """Put it there whatever is, also a file of any length."""
        import obstore

        self._asked(lambda: obstore.put(self._bucket, self._key(name), data, chunk_size=PIECE, max_concurrency=4))

    def move(self, old: str, new: str) -> None:
        """Give an object another name, whatever has that; nothing of it comes here."""
        import obstore

        self._asked(lambda: obstore.copy(self._bucket, self._key(old), self._key(new)), old)
        self.remove(old)

    def fetch(self, name: str, file: BinaryIO) -> None:
        """Write all of it to a file."""
        import obstore

        def get() -> None:
            file.seek(0)
            for piece in obstore.get(self._bucket, self._key(name)).stream(min_chunk_size=PIECE):
                file.write(piece)
            file.truncate()

        self._asked(get, name)

    def stands(self, name: str) -> bool:
        """Whether a stray lies there: nobody is asked, before each purchase, for what was listed once."""
        return name in self.strays

    def check_room(self, least: int) -> None:
        """There is always room."""

    def secure(self, names: Set[str]) -> None:
        """What lies there is durable."""

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _asked(self, ask: Callable[[], T], name: str = "") -> T:
        """The answer; it is asked for again and again while none comes, for as long as there is patience."""
        until, warned = time.monotonic() + self.patience, False
        while True:
            try:
                return _answered(ask, self.url, name)
            except Unreached as error:
                if time.monotonic() + PAUSE > until:
                    mend = "see that it can be reached, and that endpoint, region and credentials are right"
                    raise StorageError(f"{self.url}: {error}. {KEPT.format(mend)}") from None
                if not warned:
                    log.warning("%s: %s: trying again for up to %.0f s", self.url, error, self.patience)
                warned = True
                time.sleep(PAUSE)


def _answered(ask: Callable[[], T], url: str, name: str) -> T:
    """The answer; StorageError where a person must do something, Unreached where it may come later.

    What a server says is not passed on but for its code: it may repeat what it was told.
    """
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

    try:
        return ask()
    except (BaseError, OSError, ValueError) as error:
        said, absent = str(error), isinstance(error, FileNotFoundError)
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    code, status = CODE.search(said), STATUS.search(said)
    why = f" ({(code or status)[1]})" if code or status else ""  # type: ignore[index]
    if NO_BUCKET.search(said):
        mend = "make it, or mend output.store and the endpoint in the environment"
        raise StorageError(f"{url}: there is no such bucket. {KEPT.format(mend)}")
    if odd := NO_PATH.search(said):
        mend = "move it away"
        raise StorageError(
            f"{url}: the name of an object there has an empty part, or dots for one: {odd[1]}. {KEPT.format(mend)}"
        )
    if absent:
        raise FileNotFoundError(errno.ENOENT, "no such object", f"{url}/{name}")
    clear = bool(status) and 400 <= int(status[1]) < 500 and int(status[1]) not in FOR_NOW  # type: ignore[index]
    if refused or clear or REGION in said:
        mend = "put credentials that may list, read and write there, and the region, into the environment"
        raise StorageError(f"{url}: access is refused, or no credentials are there{why}. {KEPT.format(mend)}")
    if any(role in said for role in ROLES):
        raise Unreached("no credentials are in the environment, and this machine was given none")
    raise Unreached(f"the store cannot be reached, or is out of order{why}")


def opened(url: str, patience: float) -> Objects:
    """What lies below s3://bucket/prefix, gs:// or az://; the environment says who asks, and where.

    UsageError where what it needs is not installed, or all could be read on the way. Nothing is asked yet.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    try:
        from obstore import store
    except ImportError:
        raise UsageError(MISSING.format(url)) from None
    make = getattr(store, KINDS[scheme])
    options = {"timeout": TIMEOUT, "allow_http": _open_road(os.environ)}
    try:
        found = make(bucket, client_options=options, retry_config={"max_retries": RETRIES})
    except Exception as error:  # whatever stands in the environment; it may be a key
        raise StorageError(
            f"{url}: the environment does not say how to reach it ({type(error).__name__}): mend its variables"
        ) from None
    return Objects(url, patience, found, f"{prefix}/" if prefix else "")


def installed() -> bool:
    return find_spec("obstore") is not None


def told(environ: Mapping[str, str]) -> str:
    """What the environment says of buckets, without any secret."""
    if not installed():
        return MISSING.format("output.store: s3://…")
    given = [name for name in ACCOUNTS if environ.get(name)]
    who = f"with {', '.join(given)}" if given else f"without {ACCOUNTS[0]}: export it before a run with output.store"
    host = _endpoint(environ)
    return f"can be reached{f', s3:// at {host}' if host else ''}, {who}"


def _open_road(environ: Mapping[str, str]) -> bool:
    """Whether S3 may be asked without encryption: on this machine, or where somebody says so; UsageError elsewhere."""
    if environ.get(HTTP, "").lower() in ("1", "true"):
        return True
    away = [name for name in ENDPOINTS if environ.get(name) and _host(environ[name]) not in LOOPBACK]
    for name in away:  # which of two is asked depends on their order
        if environ[name].lower().startswith("http://"):
            raise UsageError(
                f"{name} begins with http://: anybody on the way can read it. Use https://, or {HTTP}=true"
            )
    return not away and bool(_endpoint(environ))


def _endpoint(environ: Mapping[str, str]) -> str:
    """The host that S3 is asked at, where the environment names one."""
    return _host(next((found for name in ENDPOINTS if (found := environ.get(name))), ""))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
