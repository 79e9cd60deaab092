"""A bucket as a store: every name, any number of them, and patience with a server that is away."""

import hashlib
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from buckets import BUCKET, Bucket

from batchgen import objects, store
from batchgen.disk import Unsynced
from batchgen.errors import StorageError, UsageError
from batchgen.objects import Objects

NAMES = ["a.png", "a/b.png", "a b/c%20d+e.png", "é/水獺-🦦.png", "a/#?&=;.png", "a/b.png.png"]


@pytest.fixture
def place(bucket: Bucket, tmp_path: Path) -> Objects:
    return objects.opened(f"s3://{BUCKET}/{tmp_path.name}", 0)


def put(place: Objects, name: str, data: bytes) -> None:
    place.put(name, data, "part", Unsynced())


@pytest.mark.parametrize("name", NAMES)
def test_any_name_holds_its_bytes_and_is_listed(place: Objects, name: str) -> None:
    put(place, name, b"otter")
    put(place, name, b"otter")
    with pytest.raises(FileExistsError, match="another image"):
        put(place, name, b"heron")
    assert (place.read(name), place.read(name, 2), place.size(name)) == (b"otter", b"ot", 5)
    assert list(place.names()) == [name]
    assert abs(place.made_at(name) - time.time()) < 60
    assert place.below("a").url == f"{place.url}/a"
    place.remove(name)
    place.remove(name)
    assert place.size(name) is None
    with pytest.raises(FileNotFoundError):
        place.read(name)


def test_a_folders_neighbour_is_not_listed_with_it(place: Objects) -> None:
    for name in ("a/1", "ab/2", "a/b/3"):
        put(place, name, b"")
    assert sorted(place.names("a")) == ["a/1", "a/b/3"]
    assert list(place.below("a").names()) == ["1", "b/3"]


def test_a_list_of_many_pages_goes_on_after_an_outage(
    place: Objects, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSE", 0.1)
    wanted = [f"{n:02}" for n in range(10)]
    for name in wanted:
        put(place, name, b"")
    bucket.tell("short")
    assert list(place.names()) == wanted
    listed = objects.opened(place.url, 20).names()
    found = [next(listed)]
    bucket.tell("down")
    again = threading.Timer(1, bucket.tell, ("up",))
    again.start()
    found += list(listed)
    again.join()
    assert found == wanted


def raw(bucket: Bucket, key: str, method: str = "PUT") -> None:
    """An object of any name, as others make them."""
    signed = "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"
    url = f"http://127.0.0.1:{bucket.port}/{BUCKET}/{key}"
    asked = urllib.request.Request(url, data=b"", method=method, headers={"Authorization": signed})
    urllib.request.urlopen(asked).close()


def test_an_object_that_only_shows_a_folder_is_nothing_that_lies_in_it(place: Objects, bucket: Bucket) -> None:
    _, _, prefix = place.url.rpartition("/")
    raw(bucket, f"{prefix}/images/")
    assert list(place.below("images").names()) == []
    put(place, "images/a", b"otter")
    assert list(place.below("images").names()) == ["a"]


@pytest.mark.parametrize("name", ["a//b", "a/%2E%2E/b"])
def test_a_name_that_no_path_has_is_told_at_once(place: Objects, bucket: Bucket, name: str) -> None:
    _, _, prefix = place.url.rpartition("/")
    raw(bucket, f"{prefix}/{name}")
    with pytest.raises(StorageError, match=r"has an empty part, or dots for one: .*/b\. .* move it away"):
        list(objects.opened(place.url, 600).names())
    raw(bucket, f"{prefix}/{name}", "DELETE")


def test_a_put_that_meets_another_under_way_is_tried_again(
    place: Objects, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PAUSE", 0.1)
    bucket.tell("conflict")
    put(objects.opened(place.url, 20), "a", b"otter")
    assert place.read("a") == b"otter"


def test_patience_has_an_end(place: Objects, bucket: Bucket) -> None:
    bucket.tell("down")
    try:
        with pytest.raises(StorageError, match="cannot be reached"):
            place.read("a")
    finally:
        bucket.tell("up")


def test_what_is_large_goes_in_pieces_and_comes_back_whole(place: Objects, tmp_path: Path) -> None:
    data = hashlib.sha256(b"otter").digest() * 400_000  # more than one piece
    (tmp_path / "large").write_bytes(data)
    place.replace("old", b"before")
    place.replace("old", tmp_path / "large")
    place.move("old", "new")
    with (tmp_path / "back").open("wb") as file:
        place.fetch("new", file)
    assert (tmp_path / "back").read_bytes() == data
    assert list(place.names()) == ["new"]


@pytest.mark.parametrize("url", ["folder", "file", "s3"])
def test_every_store_keeps_what_is_there(place: Objects, tmp_path: Path, url: str) -> None:
    at = {"folder": str(tmp_path / "x"), "file": (tmp_path / "x").as_uri(), "s3": f"{place.url}/x"}[url]
    (tmp_path / "x").mkdir()
    made, unsynced = store.opened(at), Unsynced()
    made.put("a/1.png", b"otter", "part", unsynced)
    made.put("a/1.png", b"otter", "part", unsynced)
    with pytest.raises(FileExistsError):
        made.put("a/1.png", b"heron", "part", unsynced)
    unsynced.sync()
    assert (made.read("a/1.png", 3), made.size("a/1.png"), list(made.names("a"))) == (b"ott", 5, ["a/1.png"])
    assert (made.size("a/2.png"), made.keeps("a/1.png", b"otter")) == (None, True)
    with pytest.raises(OSError, match=r"No such file|no such object"):
        made.read("a/2.png")


def test_nobody_is_asked_in_the_clear_but_this_machine(place: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://minio.invalid:9000")  # beside one of this machine
    with pytest.raises(UsageError, match="AWS_ENDPOINT begins with http://"):
        objects.opened(place.url, 0)
    monkeypatch.delenv("AWS_ENDPOINT")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.invalid:9000")
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL begins with http://"):
        objects.opened(place.url, 0)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert objects.opened(place.url, 0).url == place.url


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "without AWS_ACCESS_KEY_ID: export it before a run with output.store"),
        ({"AWS_ACCESS_KEY_ID": "hunter1", "AWS_SECRET_ACCESS_KEY": "hunter2"}, "with AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "https://me:hunter2@minio.example:9000"}, "s3:// at minio.example, without"),
    ],
)
def test_the_doctor_tells_who_would_ask_and_where_and_no_secret(environ: dict[str, str], says: str) -> None:
    told = objects.told(environ)
    assert says in told
    assert "hunter" not in told
