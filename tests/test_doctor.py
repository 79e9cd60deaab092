"""doctor: what it says of a machine is true, tells what to do, and never tells a key."""

import fcntl
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest
from click import unstyle
from click.testing import CliRunner, Result
from world import KEY

from batchgen import books, catalog, doctor
from batchgen.commands.doctor import command, lines, summary
from batchgen.doctor import Finding, Mark, Trial

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /mnt/tank rw shared:7 master:2 - nfs4 nas:/tank rw,vers=4.2
31 30 0:41 / /mnt/tank/fast rw - xfs /dev/vdb rw
32 27 0:42 / /mnt/my\\040pictures\\134here rw - fuse.sshfs me@nas:/p rw
33 27 0:43 / /srv rw - ext4 /dev/vdc rw
34 33 0:44 / /srv rw - tmpfs tmpfs rw
"""
PROXY = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
PASSWORD = "pa55-canary"
HUGE = 1 << 40
MARKS: tuple[Mark, ...] = ("ok", "note", "bad")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    """Makes this process's environment hold these of the variables that lead a request, and no others."""

    def lay(environ: Mapping[str, str]) -> None:
        for name in (*PROXY, *(name.lower() for name in PROXY), *TRUST):
            monkeypatch.delenv(name, raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

    return lay


def one(found: Iterable[Finding]) -> Finding:
    (only,) = found
    return only


def said(found: Iterable[Finding]) -> dict[str, tuple[str, str]]:
    return {each.what: (each.mark, each.says) for each in found}


def marks(found: Iterable[Finding]) -> dict[str, str]:
    return {each.what: each.mark for each in found}


# The machine


@pytest.mark.parametrize(
    ("version", "wide", "mark"),
    [("3.10.14", True, "bad"), ("3.11.0", True, "ok"), ("3.14.0rc2", True, "ok"), ("3.12.1", False, "note")],
)
def test_python_is_311_or_newer_and_wide(version: str, wide: bool, mark: str) -> None:
    found = doctor.python(version, wide)
    assert found.mark == mark
    assert version in found.says


@pytest.mark.parametrize(("name", "mark"), [("linux", "ok"), ("darwin", "ok"), ("win32", "bad")])
def test_windows_is_no_place_for_it(name: str, mark: str) -> None:
    assert doctor.system(name, "x86_64").mark == mark


def test_on_windows_nothing_is_looked_at_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert marks(doctor.findings(tmp_path, {})) == {"Python": "ok", "System": "bad"}


@pytest.mark.parametrize(
    ("version", "mark"),
    [
        ("3.36.0", "bad"),
        ("3.37.0", "note"),
        ("3.40.1", "note"),
        ("3.44.5", "note"),
        ("3.44.6", "ok"),
        ("3.45.0", "note"),
        ("3.50.6", "note"),
        ("3.50.7", "ok"),
        ("3.51.2", "note"),
        ("3.51.3", "ok"),
        ("3.53.0", "ok"),
    ],
)
def test_sqlite_is_named_and_so_is_its_wal_reset_bug(version: str, mark: str) -> None:
    found = doctor.sqlite(version)
    assert found.mark == mark
    assert found.says.startswith(version)
    assert ("WAL-reset" in found.says) == (mark == "note")


def test_the_version_is_that_of_the_library_in_use() -> None:
    assert re.fullmatch(r"3\.\d+\.\d+", books.sqlite_version())


@pytest.mark.parametrize(("soft", "mark"), [(256, "note"), (1023, "note"), (1024, "ok"), (-1, "ok")])
def test_few_open_files_are_noted(soft: int, mark: str) -> None:
    assert doctor.open_files(soft).mark == mark


# The disk


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/", "/", "ext4"),
        ("/home/me/runs", "/", "ext4"),
        ("/mnt/tank/runs", "/mnt/tank", "nfs4"),
        ("/mnt/tank", "/mnt/tank", "nfs4"),
        ("/mnt/tankard", "/", "ext4"),
        ("/mnt/tank/fast/runs", "/mnt/tank/fast", "xfs"),
        ("/mnt/my pictures\\here/a", "/mnt/my pictures\\here", "fuse.sshfs"),
        ("/srv/runs", "/srv", "tmpfs"),
    ],
)
def test_the_mount_behind_a_path_is_the_nearest_and_the_topmost(path: str, point: str, kind: str) -> None:
    assert doctor.mount(path, MOUNTS) == (point, kind)


@pytest.mark.parametrize(
    ("kinds", "mark", "words"),
    [
        ("nfs nfs4 cifs smb3 9p glusterfs ceph lustre fuse.sshfs fuse.s3fs fuse.glusterfs", "bad", "use a local disk"),
        ("tmpfs ramfs", "note", "lost at power-off"),
        ("overlay", "note", "volume"),
        ("fuse fuse.mergerfs virtiofs vfat exfat", "note", ": "),
        ("ext4 xfs btrfs zfs f2fs fuseblk apfs", "ok", " on /"),
    ],
)
def test_each_kind_of_file_system_is_judged(kinds: str, mark: str, words: str) -> None:
    for kind in kinds.split():
        found = doctor.file_system("/runs", f"27 1 254:0 / / rw,relatime - {kind} source rw\n")
        assert (found.mark, words in found.says) == (mark, True), kind


@pytest.mark.parametrize("mounts", ["", "\n", "half a line", "1 2 3:4 / /elsewhere rw - ext4 x rw"])
def test_where_nothing_is_known_of_the_file_system_it_says_so(mounts: str) -> None:
    assert doctor.file_system("/runs", mounts).mark == "note"


def test_the_runs_folder_may_be_there_or_yet_to_be_made(tmp_path: Path) -> None:
    there, later = tmp_path, tmp_path / "not" / "yet"
    assert one(found for found in doctor.storage(there) if found.what == "Runs folder").says == str(tmp_path)
    assert said(doctor.storage(later))["Runs folder"] == ("ok", f"{later}, to be made in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/runs", "link", "link/runs"])
def test_a_file_or_a_dead_link_in_its_place_is_bad(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    found = one(doctor.storage(tmp_path / name))
    assert (found.mark, found.what) == ("bad", "Runs folder")
    assert "no folder" in found.says


def test_a_local_folder_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    found = said(doctor.storage(tmp_path))
    assert found["Writing"][0] in ("ok", "note")  # a busy disk may be slow
    assert re.match(r"\d+\.\d ms", found["Writing"][1])
    assert found["Locks"][0] == "ok"
    assert "File clock" not in found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_where_nobody_can_write_is_bad() -> None:
    mark, says = said(doctor.storage(Path("/proc/runs")))["Writing"]
    assert (mark, says[:7]) == ("bad", "/proc: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_one_may_not_write_is_bad(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    mark, says = said(doctor.storage(tmp_path))["Writing"]
    tmp_path.chmod(0o700)
    assert (mark, "ermission denied" in says) == ("bad", True)


def test_a_lock_that_lets_a_second_holder_in_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert marks(doctor.storage(tmp_path))["Locks"] == "bad"


def test_a_file_system_without_locks_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    assert said(doctor.storage(tmp_path))["Writing"] == (
        "bad",
        f"{tmp_path}: No locks available: mend that, or give --runs another folder",
    )
    assert list(tmp_path.iterdir()) == []


def test_it_is_the_median_that_counts_and_a_clock_may_be_a_little_off() -> None:
    quick = Trial((0.9, 0.9, 0.001, 0.001, 0.001), True, 4.9)
    slow = Trial((0.06, 0.06, 0.06, 0.0, 0.0), True, -7200.0)
    assert marks(doctor.tried(quick)) == {"Writing": "ok", "Locks": "ok"}
    assert marks(doctor.tried(slow)) == {"Writing": "note", "Locks": "ok", "File clock": "note"}
    assert said(doctor.tried(slow))["File clock"][1].startswith("7,200 s behind")


@pytest.mark.parametrize(
    ("free", "inodes", "found"),
    [
        (HUGE, (10**6, 10**6), {"Disk": "ok", "Inodes": "ok"}),
        (9 * 10**9, (10**6, 99_999), {"Disk": "note", "Inodes": "note"}),
        (99 * 10**6, (10**6, 999), {"Disk": "bad", "Inodes": "bad"}),
        (0, (10**6, 0), {"Disk": "bad", "Inodes": "bad"}),
        (HUGE, (0, 0), {"Disk": "ok"}),  # btrfs counts no inodes
    ],
)
def test_room_is_what_is_free_for_us(free: int, inodes: tuple[int, int], found: dict[str, str]) -> None:
    block, (total, left) = 4096, inodes
    stat = os.statvfs_result((block, block, HUGE, HUGE, free // block, total, total, left, 0, 255))
    assert marks(doctor.room(stat)) == found


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A small file system in memory, on a mount point with a space in its name."""
    point = tmp_path / "in memory"
    point.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m,nr_inodes=500", "tmpfs", str(point)]
    if os.geteuid() or subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def test_a_real_file_system_in_memory_is_seen_for_what_it_is(memory: Path) -> None:
    found = said(doctor.storage(memory / "runs"))
    assert found["File system"][0] == "note"
    assert found["File system"][1].startswith(f"tmpfs on {memory}: memory, lost at power-off")
    assert (found["Disk"][0], found["Inodes"][0]) == ("bad", "bad")
    (memory / "fill").write_bytes(bytes(10**6))
    with pytest.raises(OSError, match="No space"):
        (memory / "more").write_bytes(bytes(2 * 10**6))
    assert said(doctor.storage(memory))["Writing"][0] == "bad"
    assert sorted(path.name for path in memory.iterdir()) == ["fill", "more"]


# The clock


@pytest.mark.parametrize(
    ("now", "passed", "mark", "words"),
    [
        (1_796_000_000, 0.1, "ok", "2026-11-30 00:53 UTC"),
        (0, 0.1, "bad", "prices are of 2026-10-09"),
        (1_791_503_999, 0.1, "bad", "2026-10-08 23:59 UTC"),
        (1_791_504_000, 0.1, "ok", "2026-10-09 00:00 UTC"),
        (1_796_000_000, 0.0, "bad", "monotonic"),
        (1_796_000_000, -3.0, "bad", "monotonic"),
    ],
)
def test_a_clock_is_later_than_the_catalog_and_goes_forward(now: int, passed: float, mark: str, words: str) -> None:
    found = doctor.clock(now, "2026-10-09", passed)
    assert (found.mark, words in found.says) == (mark, True), found.says


def test_both_times_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    try:
        assert "2026-11-30 00:53 UTC, here 01:53 (CET, +0100)" in doctor.clock(1_796_000_000, "2026-10-09", 1).says
    finally:
        monkeypatch.undo()
        time.tzset()


# Proxies and certificates: as httpx, which is asked, takes them


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {"Proxy": ("ok", "none")}),
        ({"HTTPS_PROXY": ""}, {"Proxy": ("ok", "none")}),
        ({"HTTPS_PROXY": "http://proxy:3128"}, {"HTTPS_PROXY": ("note", "http://proxy:3128, used")}),
        ({"https_proxy": "proxy:3128"}, {"https_proxy": ("note", "proxy:3128, used")}),
        ({"https_proxy": "", "HTTPS_PROXY": "http://proxy"}, {"Proxy": ("ok", "none")}),
        ({"https_proxy": "http://a", "HTTPS_PROXY": "http://b"}, {"https_proxy": ("note", "http://a, used")}),
        ({"HTTP_PROXY": "http://proxy"}, {"HTTP_PROXY": ("note", "http://proxy, used for http:// alone")}),
        ({"ALL_PROXY": "http://[::1]:8080/"}, {"ALL_PROXY": ("note", "http://[::1]:8080, used")}),
        ({"ALL_PROXY": "ftp://proxy"}, {"ALL_PROXY": ("bad", "a proxy begins with")}),
        ({"ALL_PROXY": "socks4://proxy"}, {"ALL_PROXY": ("bad", "a proxy begins with")}),
        ({"NO_PROXY": "localhost,10.0.0.1"}, {"NO_PROXY": ("note", "localhost,10.0.0.1: reached without")}),
        (
            {"NO_PROXY": "a, *", "HTTPS_PROXY": "ftp://proxy"},
            {"NO_PROXY": ("note", "a, *"), "HTTPS_PROXY": ("note", "not used")},
        ),
    ],
)
def test_proxies_are_what_httpx_makes_of_them(
    environ: dict[str, str], found: dict[str, tuple[str, str]], bare: Callable[[Mapping[str, str]], None]
) -> None:
    told = said(doctor.proxies(environ))
    assert told.keys() == found.keys()
    for what, (mark, words) in found.items():
        assert (told[what][0], told[what][1][: len(words)]) == (mark, words)
    bare(environ)
    if any(mark == "bad" for mark, _ in told.values()):
        with pytest.raises(ValueError, match="proxy"):
            httpx.AsyncClient()
    else:
        httpx.AsyncClient()


def test_a_socks_proxy_needs_its_package(
    monkeypatch: pytest.MonkeyPatch, bare: Callable[[Mapping[str, str]], None]
) -> None:
    environ = {"ALL_PROXY": "socks5://proxy:1080"}
    bare(environ)
    for there in (None, object()):
        monkeypatch.setattr(doctor, "find_spec", lambda _, there=there: there)
        assert one(doctor.proxies(environ)).mark == ("note" if there else "bad")


@pytest.mark.parametrize(
    "value",
    [
        f"http://me:{PASSWORD}@proxy:3128",
        f"me:{PASSWORD}@proxy:3128",
        f"http://me:p@ss/{PASSWORD}@proxy:3128",
        f"http://{PASSWORD}@proxy:3128/?token={PASSWORD}",
        f"http://proxy:3128/{PASSWORD}?{PASSWORD}",
        f"http://proxy:{PASSWORD}",
        f"proxy:{PASSWORD}",
        f"proxy:{PASSWORD}://x@proxy",
        f"ftp://me:{PASSWORD}@proxy",
    ],
)
@pytest.mark.parametrize("more", [{}, {"NO_PROXY": "*"}])
def test_a_proxys_password_is_never_told(value: str, more: dict[str, str]) -> None:
    found = next(iter(doctor.proxies({"HTTPS_PROXY": value, **more})))
    assert found.what == "HTTPS_PROXY"
    assert PASSWORD not in found.says
    assert "me:" not in found.says


def test_a_proxy_is_named_without_its_user() -> None:
    found = one(doctor.proxies({"https_proxy": f"http://me:{PASSWORD}@proxy.example:3128/"}))
    assert found.says == "http://***@proxy.example:3128, used: requests to providers go through it"


@pytest.mark.parametrize(
    ("file", "mark", "words"),
    [("none.pem", "bad", "No such file"), ("empty.pem", "bad", "no certificate"), (".", "bad", "Is a directory")],
)
def test_a_bundle_that_cannot_be_read_is_bad(
    tmp_path: Path, file: str, mark: str, words: str, bare: Callable[[Mapping[str, str]], None]
) -> None:
    (tmp_path / "empty.pem").touch()
    environ = {"SSL_CERT_FILE": str(tmp_path / file)}
    found = one(doctor.certificates(environ))
    assert (found.mark, words in found.says) == (mark, True)
    bare(environ)
    with pytest.raises(OSError):  # noqa: PT011  # what it says differs; that it cannot start is the point
        httpx.create_ssl_context()


def test_a_bundle_that_can_be_read_comes_before_a_folder(bare: Callable[[Mapping[str, str]], None]) -> None:
    environ = {"SSL_CERT_FILE": certifi.where(), "SSL_CERT_DIR": "/nowhere", "REQUESTS_CA_BUNDLE": "/nowhere"}
    assert marks(doctor.certificates(environ)) == {
        "SSL_CERT_FILE": "ok",
        "SSL_CERT_DIR": "note",
        "REQUESTS_CA_BUNDLE": "note",
    }
    bare(environ)
    assert httpx.create_ssl_context().get_ca_certs()


@pytest.mark.parametrize(("name", "mark"), [("", "bad"), ("roots.pem", "bad"), ("5ed36f99.0", "ok")])
def test_a_folder_of_certificates_needs_their_hashes(tmp_path: Path, name: str, mark: str) -> None:
    if name:
        (tmp_path / name).touch()
    assert one(doctor.certificates({"SSL_CERT_DIR": f"/nowhere{os.pathsep}{tmp_path}"})).mark == mark
    assert one(doctor.certificates({"SSL_CERT_DIR": "/nowhere"})).mark == "bad"


def test_without_any_of_them_nothing_is_said() -> None:
    assert list(doctor.certificates(dict.fromkeys(TRUST, ""))) == []


# Keys and where they go


@pytest.mark.parametrize(
    ("value", "mark", "words"),
    [
        (KEY, "ok", f"set, {len(KEY)} characters"),
        ("", "note", "not set: export it before a run with provider openai"),
        (" \n", "note", "not set"),
        (f"{KEY}\n", "note", f"set, {len(KEY)} characters; batchgen leaves out"),
        (f'"{KEY}"', "bad", f"set, {len(KEY) + 2} characters, with quotes"),
        (f"'{KEY}'", "bad", "with quotes"),
        (f"“{KEY}”", "bad", "with quotes"),
        (f"Bearer {KEY}", "bad", "a space"),
        (f"{KEY}\n{KEY}", "bad", "a line end"),
        (f"{KEY}é", "bad", "a letter that no key has"),
        (f"{KEY}\udcff", "bad", "a letter that no key has"),
    ],
)
def test_a_key_is_told_by_its_length_alone(value: str, mark: str, words: str) -> None:
    found = one(doctor.account({"OPENAI_API_KEY": value}, catalog.providers()["openai"]))
    assert (found.mark, found.what, words in found.says) == (mark, "OPENAI_API_KEY", True), found.says
    check_secret(found.says)


@pytest.mark.parametrize(
    ("url", "mark", "words"),
    [
        ("https://api.openai.com/v1", "ok", "go to api.openai.com"),
        ("https://eu.api.openai.com/v1/", "ok", "go to eu.api.openai.com"),
        (
            f"https://me:{KEY}@gateway.example:8443/{KEY}",
            "note",
            "the key in OPENAI_API_KEY, go to gateway.example: unset",
        ),
        ("http://127.0.0.1:8080/v1", "note", "go to 127.0.0.1"),
        ("http://gateway.example/v1", "bad", "over http"),
        ("gateway.example/v1", "bad", "holds no address"),
        (KEY, "bad", "holds no address"),
        ("https://", "bad", "holds no address"),
        ("https://[gateway/v1", "bad", "holds no address"),
        ("https://gateway.example/v1\n", "bad", "holds no address"),
        ("ftp://gateway.example/v1", "bad", "holds no address"),
    ],
)
def test_where_the_key_goes_is_told(url: str, mark: str, words: str) -> None:
    found = next(iter(doctor.account({"OPENAI_BASE_URL": url}, catalog.providers()["openai"])))
    assert (found.mark, found.what, words in found.says) == (mark, "OPENAI_BASE_URL", True), found.says
    check_secret(found.says)


def test_the_sandbox_needs_nothing() -> None:
    assert list(doctor.account({}, catalog.providers()["sandbox"])) == []


def check_secret(text: str) -> None:
    """No part of the key that is worth having."""
    for start in range(3, len(KEY) - 6):
        assert KEY[start : start + 6] not in text


# The verb


def test_each_sentence_stands_under_its_own_beginning_and_a_path_is_whole() -> None:
    path = "/a" * 30
    found = [Finding("bad", "Disk", "one two three four five six seven"), Finding("ok", "Open files", f"at {path}")]
    assert list(map(unstyle, lines(found, 40))) == [
        "bad   Disk        one two three four",
        "                  five six seven",
        "ok    Open files  at",
        f"                  {path}",
    ]


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ("ok", "Nothing is bad, 0 notes."),
        ("ok note", "Nothing is bad, 1 note."),
        ("bad note note", "1 bad, 2 notes."),
    ],
)
def test_the_last_line_counts(marks: str, says: str) -> None:
    assert summary([Finding(mark, "", "") for mark in MARKS for _ in range(marks.split().count(mark))]) == says


def ask(*arguments: str, color: bool = False, **environ: str) -> Result:
    clear = dict.fromkeys((*PROXY, *(name.lower() for name in PROXY), *TRUST, "OPENAI_BASE_URL", "OPENAI_API_KEY"))
    env = {**clear, "COLUMNS": "80", "NO_COLOR": None, **environ}
    return CliRunner().invoke(command, arguments, env=env, color=color, standalone_mode=False, catch_exceptions=False)


def test_a_good_machine_ends_with_0_and_fits_80_columns(tmp_path: Path) -> None:
    told = ask("--runs", str(tmp_path / "runs"), OPENAI_API_KEY=KEY)
    assert told.return_value == 0
    *rows, empty, last = told.stdout.splitlines()
    assert empty == ""
    assert last.startswith("Nothing is bad, ")
    assert {row[:4].strip() for row in rows} <= {"ok", "note", ""}
    assert all(len(row) <= 80 for row in rows if str(tmp_path) not in row)
    check_secret(told.output)


def test_something_bad_ends_with_5_and_is_counted(tmp_path: Path) -> None:
    told = ask("--runs", str(tmp_path), OPENAI_API_KEY=f'"{KEY}"', SSL_CERT_FILE="/nowhere.pem")
    assert told.return_value == 5
    assert re.search(r"^bad +OPENAI_API_KEY +set, ", told.stdout, re.MULTILINE)
    assert told.stdout.splitlines()[-1].startswith("2 bad, ")
    check_secret(told.output)


def test_json_is_the_same_for_scripts(tmp_path: Path) -> None:
    told = ask("--json", "--runs", str(tmp_path), HTTPS_PROXY=f"http://me:{PASSWORD}@proxy", OPENAI_API_KEY=f"{KEY} é")
    found: dict[str, Any] = json.loads(told.stdout)
    assert told.return_value == 5
    assert found.keys() == {"schema_version", "findings"}
    assert found["schema_version"] == 1
    assert all(each.keys() == {"mark", "what", "says"} for each in found["findings"])
    assert {each["mark"] for each in found["findings"]} <= {"ok", "note", "bad"}
    assert PASSWORD not in told.output
    check_secret(told.output)


def test_names_with_strange_bytes_are_told_and_steer_no_terminal(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"\xff\x1b]0;owned\x07") / "runs"
    for flags in ([], ["--json"]):
        told = ask("--runs", str(strange), *flags)
        assert told.return_value == 0
        assert "\x1b" not in told.stdout
        assert "owned" in told.stdout


@pytest.mark.parametrize(
    ("color", "environ", "coloured"), [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (False, {}, False)]
)
def test_colour_is_for_terminals_whose_owner_wants_it(
    tmp_path: Path, color: bool, environ: dict[str, str], coloured: bool
) -> None:
    assert ("\x1b[" in ask("--runs", str(tmp_path), color=color, **environ).stdout) == coloured


def test_it_makes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was asked for")

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    assert (
        ask("--runs", str(tmp_path), OPENAI_BASE_URL="https://gateway.example/v1", OPENAI_API_KEY=KEY).return_value == 0
    )
    assert "no network connection" in " ".join(ask("--help").stdout.split())
