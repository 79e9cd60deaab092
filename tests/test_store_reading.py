"""Images in a bucket, read: pages, the live view, Python, and exports from it and into it."""

import hashlib
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import obstore
import pyarrow.parquet
import pytest
from browser import Browser
from buckets import BUCKET, Bucket
from obstore.store import S3Store
from sandbox.child import Child
from world import World, eventually, many

import batchgen
from batchgen import far
from batchgen.errors import UsageError
from batchgen.objects import opened

FORMATS = ("imagefolder", "webdataset", "parquet")


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory, polite: Child, s3: Bucket) -> Iterator[World]:
    """Eight images that lie in the bucket."""
    made = World(tmp_path_factory.mktemp("bought"), polite, before=len(polite.bill()["charges"]))
    path = made.write(prompts=many(4), request={"quality": "low", "n": 2}, output={"store": f"s3://{BUCKET}/bought"})
    done = made.command("run", str(path), **s3.env)
    assert done.returncode == 0, done.stderr
    yield made
    made.end()


def objects(prefix: str) -> dict[str, bytes]:
    store = S3Store(BUCKET, client_options={"allow_http": True})
    names = [each["path"] for page in obstore.list(store, prefix) for each in page]
    return {name.removeprefix(f"{prefix}/"): bytes(obstore.get(store, name).bytes()) for name in names}


def saved(world: World) -> dict[str, str]:
    return dict(world.rows("SELECT path, sha256 FROM images WHERE state = 'saved'"))


def export(world: World, to: object, *more: str) -> "subprocess.CompletedProcess[str]":
    return world.command("export", str(world.run_folder), "--to", str(to), *more)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_python_is_told_urls(bought: World, bucket: Bucket) -> None:
    images = list(batchgen.Ledger(bought.run_folder).images())
    assert {image.path for image in images} == {f"s3://{BUCKET}/bought/otters/images/{path}" for path in saved(bought)}


def test_the_report_page_has_thumbnails_and_says_where_full_sizes_lie(
    bought: World, bucket: Bucket, browser: Browser
) -> None:
    page = bought.folder / "report.html"
    done = bought.command("report", str(bought.run_folder), "--html", str(page))
    assert (done.returncode, "without a thumbnail" in done.stderr) == (0, False)
    tab = browser.tab().open(page.absolute().as_uri())
    tab.page.click(".tile img")
    tab.page.wait_for_selector(".lost img")
    told = tab.text(".lost")
    assert "it lies in a bucket. batchgen view shows it." in told
    assert f"s3://{BUCKET}/bought/otters/images/otter-" in told
    tab.check_quiet(page.absolute().as_uri())
    assert len([*(bought.run_folder / "thumbs").rglob("*.webp")]) == len({*saved(bought).values()})


def test_the_live_view_shows_images_from_the_bucket(bought: World, bucket: Bucket) -> None:
    view = bought.begin("view", str(bought.run_folder))
    assert view.stdout
    url = next(word for word in view.stdout.readline().split() if word.startswith("http://"))
    with httpx.Client(base_url=url, trust_env=False) as client:
        (id_, sha256), *_ = bought.rows("SELECT id, sha256 FROM images")
        found = client.get(f"image/{id_}")
        assert hashlib.sha256(found.content).hexdigest() == sha256
        assert client.get(f"thumb/{id_}").headers["content-type"] == "image/webp"
        bucket.tell("down")
        eventually(lambda: client.get(f"image/{id_}").status_code == 503)
        bucket.tell("up")
        assert client.get(f"image/{id_}").status_code == 200


def test_verify_tells_what_was_changed_removed_and_added(bought: World, bucket: Bucket) -> None:
    store = S3Store(BUCKET, client_options={"allow_http": True})
    at = "bought/otters/images"
    one, two, *_ = sorted(saved(bought))
    before = {name: bytes(obstore.get(store, f"{at}/{name}").bytes()) for name in (one, two)}
    obstore.put(store, f"{at}/{one}", b"another")
    obstore.delete(store, f"{at}/{two}")
    obstore.put(store, f"{at}/stray.png", b"who knows")
    done = bought.command("verify", str(bought.run_folder), "--json")
    assert {found["where"]: found["what"] for found in json.loads(done.stdout)["findings"]} == {
        one: "changed",
        two: "missing",
        "stray.png": "unknown",
    }
    for name, data in before.items():
        obstore.put(store, f"{at}/{name}", data)
    obstore.delete(store, f"{at}/stray.png")
    assert bought.command("verify", str(bought.run_folder)).returncode == 0


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_the_same_in_a_folder_and_in_a_bucket(
    bought: World, bucket: Bucket, tmp_path: Path, format: str
) -> None:
    prefix = f"datasets/{format}"
    for to in (tmp_path / "out", f"s3://{BUCKET}/{prefix}"):
        done = export(bought, to, "--format", format, "--split", "train=0.5,val=0.5")
        assert (done.returncode, "8 images" in done.stdout) == (0, True), done.stderr
    assert objects(prefix) == tree(tmp_path / "out")
    again = export(bought, f"s3://{BUCKET}/{prefix}", "--format", format, "--split", "train=0.5,val=0.5")
    assert "all of it was there already" in again.stderr


def test_what_was_exported_to_a_bucket_holds_the_very_bytes(bought: World, bucket: Bucket) -> None:
    assert export(bought, f"s3://{BUCKET}/loads", "--format", "parquet").returncode == 0
    table: Any = pyarrow.parquet.read_table(io.BytesIO(objects("loads")["data/train-00000.parquet"]))
    found = [hashlib.sha256(image["bytes"]).hexdigest() for image in table["image"].to_pylist()]
    assert sorted(found) == sorted(table["sha256"].to_pylist()) == sorted(saved(bought).values())


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_was_cut_off_goes_on(bought: World, bucket: Bucket, tmp_path: Path, format: str) -> None:
    prefix = f"cut/{format}"
    bucket.tell("slow 0.05")
    process = bought.begin("export", str(bought.run_folder), "--to", f"s3://{BUCKET}/{prefix}", "--format", format)
    eventually(lambda: objects(prefix))
    process.kill()
    process.communicate()
    bucket.tell("honest")
    assert "export.json" not in objects(prefix), "the list comes last"
    assert export(bought, f"s3://{BUCKET}/{prefix}", "--format", format).returncode == 0
    assert export(bought, tmp_path / "out", "--format", format).returncode == 0
    assert objects(prefix) == tree(tmp_path / "out")


def test_an_export_follows_what_is_wanted_and_leaves_alone_what_is_not_its_own(bought: World, bucket: Bucket) -> None:
    store = S3Store(BUCKET, client_options={"allow_http": True})
    for format in FORMATS:
        prefix, where = f"follows/{format}", ("--where", "n_index = 0")
        to = f"s3://{BUCKET}/{prefix}"
        assert export(bought, to, "--format", format, *where).returncode == 0
        other = export(bought, to, "--format", format)
        assert (other.returncode, "holds another export: its where" in other.stderr) == (2, True)
        obstore.put(store, f"{prefix}/notes.txt", b"mine")
        assert export(bought, to, "--format", format, *where).returncode == 0
        assert objects(prefix)["notes.txt"] == b"mine"
    obstore.put(store, "strange/notes.txt", b"mine")
    done = export(bought, f"s3://{BUCKET}/strange", "--format", "parquet")
    assert (done.returncode, "something else lies there" in done.stderr) == (2, True)
    for to in (f"s3://{BUCKET}/linked", str(bought.folder / "linked")):
        linked = export(bought, to, "--format", "imagefolder", "--link")
        assert (linked.returncode, "leave --link out" in linked.stderr) == (2, True)
    own = export(bought, f"s3://{BUCKET}/bought/otters/data", "--format", "parquet")
    assert (own.returncode, "the run's own place" in own.stderr) == (2, True)


IDENTITY = {"job": "zoo"}


def test_an_export_that_was_cut_off_as_it_moved_is_brought_up_to_date(bucket: Bucket, tmp_path: Path) -> None:
    place = opened(f"s3://{BUCKET}/moved", 0)
    with far.opened(place, IDENTITY) as made:
        made.write("data", b"one")
        made.finish()
    place.move("export.json", ".part/export.json")  # as it stands before the list gets its name
    with far.opened(place, IDENTITY) as made:
        made.write("data", b"three")
        made.finish()
    assert objects("moved")["data"] == b"three"
    assert [*objects("moved")] == ["data", "export.json"]


def test_of_two_that_begin_at_once_one_is_refused(bucket: Bucket) -> None:
    place = opened(f"s3://{BUCKET}/both", 0)
    with far.opened(place, IDENTITY) as one, far.opened(place, {"job": "farm"}) as other:
        one.write("data", b"one")
        with pytest.raises(UsageError, match="something else lies there"):
            other.write("data", b"other")
        one.finish()
    assert objects("both")["data"] == b"one"


def test_an_export_that_was_cut_off_leaves_alone_one_in_a_folder_of_it(bought: World, bucket: Bucket) -> None:
    to, where = f"s3://{BUCKET}/outer", ("--format", "imagefolder", "--where", "n_index = 0")
    assert export(bought, to, *where).returncode == 0
    assert export(bought, f"{to}/inner", *where).returncode == 0
    before = objects("outer/inner")
    opened(to, 0).move("export.json", ".part/export.json")
    assert export(bought, to, *where).returncode == 0
    assert objects("outer/inner") == before
