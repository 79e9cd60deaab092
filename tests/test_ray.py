"""Runs by the nodes of a real Ray cluster: what they make, who cannot join in, and what a killed driver leaves."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import SERVES, Cluster, Node
from PIL import Image
from test_delivery import by_link, polled
from world import KEY, KEY_ENV, World, eventually, many

Start = Callable[..., World]


def remote(world: World, **changes: object) -> dict[str, object]:
    """What makes a run one by a cluster: images and receipts go where all of its nodes reach."""
    store = world.folder / "store"
    store.mkdir(exist_ok=True)
    return {"engine": "ray", "output": {"store": store.as_uri()}, **changes}


def joined(cluster: Cluster, count: int, **env: str) -> list[Node]:
    nodes = [cluster.join({KEY_ENV: KEY, **env}) for _ in range(count)]
    for node in nodes:
        node.wait()
    return nodes


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the nodes' own folders are."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def ours(scratch: Path) -> Iterator[Cluster]:
    """A head and two nodes, which are shared and therefore left in peace."""
    if not importlib.util.find_spec("ray"):
        pytest.skip("NO CLUSTER TESTS: ray is not installed")
    with Cluster() as made:
        joined(made, 2, TMPDIR=str(scratch))
        yield made


def images(world: World) -> list[Path]:
    return sorted(path for path in (world.folder / "store").rglob("images/*/*") if path.is_file())


def test_a_cluster_makes_what_one_machine_makes(world: World, ours: Cluster, scratch: Path) -> None:
    manifest = world.write(**remote(world, prompts=many(40), limits={"concurrency": 8, "budget": 10}))
    done = world.command("run", str(manifest), "--yes", **ours.environ)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    world.check_equal_to_the_bill()
    assert world.rows("SELECT count(*) FROM attempts WHERE engine = 'ray' AND state = 'paid'") == [(40,)]
    assert len(images(world)) == 40
    assert not list((world.folder / "store").rglob("receipts/*")), "what the ledger has is needed nowhere else"
    eventually(lambda: not list(scratch.iterdir()))


@pytest.mark.skipif(not SERVES, reason="ray[client] is not installed")
def test_who_belongs_to_no_node_drives_as_a_client(world: World, ours: Cluster) -> None:
    manifest = world.write(**remote(world, prompts=many(6)))
    done = world.command("run", str(manifest), "--yes", "--ray-address", f"ray://{ours.client}", **ours.environ)
    assert done.returncode == 0, done.stderr
    world.check_equal_to_the_bill()


def test_a_node_that_dies_of_being_greeted_is_not_asked_for_ever(world: World, tmp_path: Path) -> None:
    (tmp_path / "batchgen").mkdir()
    (tmp_path / "batchgen" / "__init__.py").write_text("raise ImportError('it is not installed')")
    if not importlib.util.find_spec("ray"):
        pytest.skip("NO CLUSTER TESTS: ray is not installed")
    with Cluster() as bare:
        joined(bare, 1, PYTHONPATH=str(tmp_path))
        done = world.command("run", str(world.write(**remote(world))), "--yes", **bare.environ)
    assert (done.returncode, world.charges()) == (5, [])
    assert "nothing starts there: ActorDiedError: " in done.stderr


def test_links_and_tasks_to_poll_are_seen_through_by_who_bought(world: World, ours: Cluster) -> None:
    for name, asked in (("linked", by_link(world)), ("polled", polled(world))):
        manifest = world.write(name=name, **remote(world, **asked))
        done = world.command("run", str(manifest), "--yes", **ours.environ)
        assert done.returncode == 0, done.stderr
    assert (len(images(world)), len(world.charges())) == (4, 4)


def test_files_to_edit_reach_the_nodes_by_the_store(bad: Start, ours: Cluster) -> None:
    world = bad("--script", "429 ok 500 cut-before ok")
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (64, 64), colour).save(world.folder / name)
    hole = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (16, 16, 48, 48))
    hole.save(world.folder / "hole.png")
    edit = {"operation": "edit", "mask": "hole.png"}
    sources = [{"prompt": prompt, "images": ["a.png", "b.png"], **edit} for prompt in many(6)]
    request = {"size": "1024x1024", "quality": "low", "n": 2}
    manifest = world.write(**remote(world, prompts=sources, request=request, retry={"on_unknown": "retry"}))
    done = world.command("run", str(manifest), "--yes", **ours.environ)
    assert (done.returncode, len(images(world))) == (0, 12), done.stderr
    world.check_books()


def test_what_a_killed_driver_ordered_is_taken_in_without_the_cluster(bad: Start, ours: Cluster) -> None:
    world = bad("--latency", "1.5")
    manifest = world.write(**remote(world, prompts=many(16), limits={"concurrency": 4, "budget": 10}))
    process = world.begin("run", str(manifest), "--yes", **ours.environ)
    eventually(lambda: len(world.charges()) > 4)
    time.sleep(0.7)  # the next ones are at the provider, and not made yet
    process.kill()
    process.communicate()
    settled = world.rows("SELECT id FROM attempts WHERE state = 'paid'")[0][0]
    part = images(world)[0].with_name(f".{settled}.0.part")
    part.touch()  # as a node leaves it that is killed while it writes
    done = world.command("run", str(manifest), "--yes", "--engine", "local")
    assert done.returncode == 0, done.stderr
    assert not part.exists()
    world.check_equal_to_the_bill()
    assert set(world.rows("SELECT DISTINCT engine, state FROM attempts")) == {("ray", "paid"), ("local", "paid")}


def test_a_node_with_another_key_is_not_used_and_the_others_go_on(bad: Start, ours: Cluster) -> None:
    world = bad("--latency", "2")
    joined(ours, 1, **{KEY_ENV: "sk-somebody-elses-and-long-enough"})
    manifest = world.write(**remote(world, prompts=many(6), limits={"concurrency": 2, "budget": 10}))
    done = world.command("run", str(manifest), "--yes", **ours.environ)
    assert done.returncode == 0, done.stderr
    assert f"{KEY_ENV} is another one there than here" in (world.run_folder / "run.log").read_text()
    world.check_equal_to_the_bill()


@pytest.mark.parametrize(
    ("address", "environ", "says"),
    [
        ("127.0.0.1:1", {}, "no Ray cluster can be used at 127.0.0.1:1: All connection attempts failed"),
        ("auto", {"RAY_ADDRESS": "foo"}, "no Ray cluster can be used at auto: Invalid address format: foo"),
        ("auto", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "nowhere"}, "no Ray cluster can be used at auto"),
    ],
)
def test_where_there_is_no_cluster_one_sentence_says_so(
    address: str, environ: dict[str, str], says: str, world: World
) -> None:
    manifest = world.write(**remote(world))
    done = world.command("run", str(manifest), "--yes", "--ray-address", address, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.rstrip().endswith("Nothing was sent.")
    assert world.charges() == []
