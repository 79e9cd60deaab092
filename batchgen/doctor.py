"""What a night's run rests on: this machine, its disk, its clock and its environment. Nothing here asks the network."""

import os
import platform
import re
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from batchgen import books, catalog, objects
from batchgen.catalog import Provider
from batchgen.text import clean

Mark = Literal["ok", "note", "bad"]

PYTHON_LEAST, SQLITE_LEAST = (3, 11), (3, 37)
WAL_RESET = ((3, 7, 0), (3, 51, 2))  # first and last version with that bug
WAL_RESET_MENDED = ((3, 44, 6), (3, 50, 7))  # but for these, and those that follow them in their series
UNTRUSTED = "locks and durable writes cannot be trusted here: use a local disk"
KINDS: tuple[tuple[str, Mark, str], ...] = (  # of file systems: the first that matches
    (r"nfs4?|cifs|smb\w*|ncpfs|afs|9p|ceph|glusterfs|lustre|gpfs|beegfs|davfs|vboxsf|prl_fs", "bad", UNTRUSTED),
    (r"fuse\.(sshfs|s3fs|goofys|gcsfuse|rclone|juicefs|glusterfs|ceph.*|gvfsd-fuse|vmhgfs-fuse)", "bad", UNTRUSTED),
    (r"fuse(\..*)?", "note", "a file system in user space: use a local disk if this is a remote one"),
    (r"virtiofs", "note", "shared with this machine's host: only one of the two may work on a run"),
    (r"tmpfs|ramfs", "note", "memory, lost at power-off: use a disk for images that cost money"),
    (r"overlay", "note", "goes when its container goes: mount a volume for the runs"),
    (r"vfat|msdos|exfat", "note", "no journal: a power cut can take whole files; use another disk"),
)
MOUNTS = Path("/proc/self/mountinfo")
SLOW, SKEW_MOST = 0.050, 5.0  # seconds
SPACE_NOTE, SPACE_BAD = 10 * 10**9, 100 * 10**6  # bytes
INODES_NOTE, INODES_BAD, FILES_LEAST = 100_000, 1_000, 1024

QUOTES = "\"'`“”‘’"
SCHEME_AND_REST = re.compile(r"\A([a-z][a-z0-9+.-]*://)?(.*)", re.IGNORECASE | re.DOTALL)
HOST_AND_PORT = re.compile(r"(\[[^]]*\]|[^:/?#]*)(:[0-9]+(?=[/?#]|\Z))?")
PROXY_SCHEMES = {"", "http://", "https://", "socks5://", "socks5h://"}
USED = {
    "HTTPS_PROXY": "used: requests to providers go through it",
    "ALL_PROXY": "used, but not for https:// where HTTPS_PROXY is set",
    "HTTP_PROXY": "used for http:// alone, and providers are asked over https://",
}
ESCAPED = re.compile(r"\\([0-7]{3})")  # so the kernel writes a space in a mount point
HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


@dataclass(frozen=True, slots=True)
class Finding:
    mark: Mark
    what: str
    says: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What real files in the folder showed; `ahead` is the seconds by which their clock is ahead of ours."""

    seconds: tuple[float, ...]
    exclusive: bool
    ahead: float


def findings(runs: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    """All of them, from the machine to the key."""
    begun = time.monotonic()
    yield python(platform.python_version(), sys.maxsize > 2**32)
    yield system(sys.platform, platform.machine())
    if sys.platform == "win32":
        return
    import resource  # not on Windows

    yield sqlite(books.sqlite_version())
    yield from storage(runs)
    newest = max(prices.as_of for prices in catalog.price_lists().values())
    yield clock(time.time(), newest, time.monotonic() - begun)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield from proxies(environ)
    yield from certificates(environ)
    yield Finding("ok" if objects.installed() else "note", "Buckets", _shown(objects.told(environ)))
    for provider in {each.api_key_env: each for each in reversed([*catalog.providers().values()])}.values():
        yield from account(environ, provider)


def python(version: str, wide: bool) -> Finding:
    told = f"{version}, {64 if wide else 32} bit"
    if _number(version) < PYTHON_LEAST:
        return Finding("bad", "Python", f"{told}: install 3.11 or newer")
    return Finding("ok", "Python", told) if wide else Finding("note", "Python", f"{told}: large nights need 64 bit")


def system(name: str, machine: str) -> Finding:
    if name == "win32":
        return Finding("bad", "System", "Windows: batchgen needs POSIX files and locks; run it in WSL 2, on its disk")
    return Finding("ok", "System", _shown(f"{name} {machine}"))


def sqlite(version: str) -> Finding:
    number, (first, last) = _number(version), WAL_RESET
    if number < SQLITE_LEAST:
        return Finding("bad", "SQLite", f"{version}: install a Python that brings 3.37 or newer, for STRICT tables")
    mended = any(number[:2] == each[:2] and number >= each for each in WAL_RESET_MENDED)
    if mended or not first <= number <= last:
        return Finding("ok", "SQLite", version)
    why = "needs two writers at once; batchgen has one, held by a lock"
    says = f"{version} has the WAL-reset bug, which {why}: safe unless another program writes to a ledger"
    return Finding("note", "SQLite", says)


def storage(runs: Path) -> Iterator[Finding]:
    """Where the images and the ledger go."""
    at = nearest(runs)
    yield folder(runs, at)
    if not os.path.isdir(at):
        return
    yield file_system(os.path.realpath(at), os.fsdecode(MOUNTS.read_bytes()) if MOUNTS.exists() else "")
    try:
        yield from room(os.statvfs(at))
        yield from tried(trial(at))
    except OSError as error:
        yield Finding("bad", "Writing", f"{_shown(at)}: {error.strerror}: mend that, or give --runs another folder")


def nearest(path: Path) -> Path:
    """The path itself, or the nearest above it that is there."""
    whole = path.absolute()
    return next((at for at in (whole, *whole.parents) if os.path.lexists(at)), Path("/"))


def folder(runs: Path, at: Path) -> Finding:
    if not os.path.isdir(at):
        return Finding("bad", "Runs folder", f"{_shown(at)} is no folder: move it away, or give --runs another")
    if at == runs.absolute():
        return Finding("ok", "Runs folder", _shown(at))
    return Finding("ok", "Runs folder", f"{_shown(runs.absolute())}, to be made in {_shown(at)}")


def file_system(path: str, mounts: str) -> Finding:
    """Whether the file system behind a real path keeps its promises, by the text of /proc/self/mountinfo."""
    point, kind = mount(path, mounts)
    if not kind:
        return Finding("note", "File system", "unknown on this system: make sure that it is a local disk")
    told = f"{_shown(kind)} on {_shown(point)}"
    for pattern, mark, says in KINDS:
        if re.fullmatch(pattern, kind):
            return Finding(mark, "File system", f"{told}: {says}")
    return Finding("ok", "File system", told)


def mount(path: str, mounts: str) -> tuple[str, str]:
    """The mount point that holds a path and the kind of its file system; of equals, the last lies on top."""
    found = ("", "")
    for line in mounts.split("\n"):
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        point = ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields[4]) if len(fields) > 4 else ""
        if point and f"{path}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(found[0]):
            found = (point, right.partition(" ")[0])
    return found


def trial(at: Path) -> Trial:
    """Write five files as a run writes an image, and lock one; they are gone afterwards. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix=".batchgen-doctor-", dir=at) as name:
        files = [Path(name, str(number)) for number in range(5)]
        seconds = tuple(_write(file) for file in files)
        ahead = files[-1].stat().st_mtime - time.time()
        return Trial(seconds, _exclusive(files[0]), ahead)


def _write(file: Path) -> float:
    """The seconds until a new file is durable."""
    from batchgen import disk  # does not load on Windows

    begun = time.perf_counter()
    disk.write_whole(file, bytes(4096), file.with_suffix(".part"))
    return time.perf_counter() - begun


def _exclusive(file: Path) -> bool:
    """Whether a lock keeps a second holder out. SQLite's kind of lock must be there too."""
    import fcntl  # not on Windows

    with file.open("rb+") as one, file.open("rb+") as two:
        fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def tried(seen: Trial) -> Iterator[Finding]:
    """What a trial means."""
    median = statistics.median(seen.seconds)
    told = f"{median * 1000:.1f} ms until a file is durable"
    slow = Finding("note", "Writing", f"{told}, and each image waits for it: a local SSD is faster")
    yield slow if median > SLOW else Finding("ok", "Writing", told)
    broken = Finding("bad", "Locks", "a second holder was let in: two runs could spend at once; use a local disk")
    yield Finding("ok", "Locks", "keep a second run out") if seen.exclusive else broken
    if abs(seen.ahead) >= SKEW_MOST:
        way = "ahead of" if seen.ahead > 0 else "behind"
        yield Finding("note", "File clock", f"{abs(seen.ahead):,.0f} s {way} this machine's clock: set the wrong one")


def room(stat: os.statvfs_result) -> Iterator[Finding]:
    """Free bytes, and free inodes where the file system counts them; what root alone may use is not free."""
    free = stat.f_bavail * stat.f_frsize
    says = "make room, or give --runs a folder on another disk"
    yield _enough("Disk", free, (SPACE_NOTE, SPACE_BAD), f"{free / 10**9:,.2f} GB free", says)
    if stat.f_files:
        told = f"{stat.f_favail:,} free"
        says = "each image takes one; delete small files, or give --runs a folder on another disk"
        yield _enough("Inodes", stat.f_favail, (INODES_NOTE, INODES_BAD), told, says)


def _enough(what: str, free: int, least: tuple[int, int], told: str, says: str) -> Finding:
    note, bad = least
    if free >= note:
        return Finding("ok", what, told)
    return Finding("bad" if free < bad else "note", what, f"{told}: {says}")


def clock(now: float, newest: str, passed: float) -> Finding:
    """`newest` is the catalog's newest date, `passed` the seconds that the monotonic clock counted just now."""
    utc = datetime.fromtimestamp(now, UTC)
    here = utc.astimezone()
    told = f"{utc:%Y-%m-%d %H:%M} UTC, here {here:%H:%M} ({here:%Z}, {here:%z})"
    if passed <= 0:
        return Finding("bad", "Clock", f"{told}: the monotonic clock does not go forward; restart the machine")
    if f"{utc:%Y-%m-%d}" < newest:
        return Finding("bad", "Clock", f"{told}, but the catalog's prices are of {newest}: set the clock")
    return Finding("ok", "Clock", f"{told}; months of costs are UTC's")


def open_files(soft: int) -> Finding:
    told = f"at most {soft:,}" if soft >= 0 else "without limit"  # -1: RLIM_INFINITY
    if 0 <= soft < FILES_LEAST:
        return Finding("note", "Open files", f"{told}: raise it before a run with many lanes (ulimit -n 4096)")
    return Finding("ok", "Open files", told)


def proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What httpx makes of them; no request to this machine goes through one. Small letters win, even where empty."""
    spelled = {name: name.lower() if name.lower() in environ else name for name in (*USED, "NO_PROXY")}
    given = {name: environ[spelling] for name, spelling in spelled.items() if environ.get(spelling)}
    if not given:
        yield Finding("ok", "Proxy", "none in the environment")
    direct = given.pop("NO_PROXY", "")
    off = "*" in (part.strip() for part in direct.split(","))
    for name, value in given.items():
        yield Finding(*_proxy(spelled[name], value, off))
    if direct:
        yield Finding("note", spelled["NO_PROXY"], f"{_shown(direct)}: reached without a proxy")


def _proxy(name: str, value: str, off: bool) -> tuple[Mark, str, str]:
    scheme, rest = SCHEME_AND_REST.findall(value)[0]
    _, at, behind = rest.rpartition("@")
    host = HOST_AND_PORT.match(behind)
    shown = _shown(f"{scheme}{at and '***@'}{host[0] if host else ''}")
    if off:
        return "note", name, "not used, for NO_PROXY is *"
    if scheme.lower() not in PROXY_SCHEMES or "://" in rest:
        return "bad", name, "a proxy begins with http://, https:// or socks5://, this one does not: mend or unset it"
    if scheme.lower().startswith("socks") and not find_spec("socksio"):
        return "bad", name, f"{shown}: a SOCKS proxy needs one more package: pip install 'httpx[socks]'"
    return "note", name, f"{shown}, {USED[name.upper()]}"


def certificates(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that say whom to trust: the file comes before the folder, and httpx knows no other."""
    bundle, paths = environ.get("SSL_CERT_FILE", ""), environ.get("SSL_CERT_DIR", "")
    if bundle:
        yield _roots(bundle)
    if paths and bundle:
        yield Finding("note", "SSL_CERT_DIR", "not used, for SSL_CERT_FILE is set")
    elif paths:
        files = (file for path in paths.split(os.pathsep) if path for file in Path(path).glob("*"))
        hashed = any(HASHED.fullmatch(file.name) for file in files)
        says = "the only roots that are trusted" if hashed else "no certificate there: openssl rehash it, or unset this"
        yield Finding("ok" if hashed else "bad", "SSL_CERT_DIR", f"{_shown(paths)}: {says}")
    if environ.get("REQUESTS_CA_BUNDLE"):
        yield Finding("note", "REQUESTS_CA_BUNDLE", "not used by batchgen: set SSL_CERT_FILE if its roots are needed")


def _roots(bundle: str) -> Finding:
    try:
        ssl.create_default_context(cafile=bundle)
    except OSError as error:
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        return Finding("bad", "SSL_CERT_FILE", f"{_shown(bundle)}: {why}; name a PEM file, or unset it")
    return Finding("ok", "SSL_CERT_FILE", f"{_shown(bundle)}: the only roots that are trusted")


def account(environ: Mapping[str, str], provider: Provider) -> Iterator[Finding]:
    """Where a variable sends a provider's requests, and whether its key is there and can be one."""
    url = environ.get(provider.base_url_env, "")
    if url:
        mark, says = _leads(url, provider)
        yield Finding(mark, provider.base_url_env, says)
    if environ.get(provider.api_key_env) or provider.api_key_env == "OPENAI_API_KEY":
        mark, says = _key(environ.get(provider.api_key_env, ""), provider.name)
        yield Finding(mark, provider.api_key_env, says)


def _leads(url: str, provider: Provider) -> tuple[Mark, str]:
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    except ValueError:
        scheme, host = "", ""
    goes = f"requests to {provider.name}, and the key in {provider.api_key_env}, go to {_shown(host)}"
    if scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        return "bad", "holds no address: it must begin with https:// and hold no space; mend or unset it"
    if scheme == "http" and not catalog.loopback(host):
        return "bad", f"{goes} over http, where anybody on the way can read them: use https://"
    return ("ok", goes) if host in provider.hosts else ("note", f"{goes}: unset it unless you mean that")


def _key(value: str, provider: str) -> tuple[Mark, str]:
    """Only its length is told."""
    key = value.strip()
    told = f"set, {len(key):,} characters"
    if not key:
        return "note", f"not set: export it before a run with provider {provider}"
    if key[0] in QUOTES or key[-1] in QUOTES:
        return "bad", f"{told}, with quotes that would be sent along: export it without them"
    if not (key.isascii() and key.isprintable()) or " " in key:
        return "bad", f"{told}, among them a space, a line end or a letter that no key has: copy it anew"
    if key != value:
        return "note", f"{told}; batchgen leaves out the space or line end around it, other programs may not"
    return "ok", told


def _shown(value: object) -> str:
    """A path or name from outside, fit to be shown, whatever its bytes."""
    return clean(os.fsencode(str(value)).decode(errors="replace"))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))
