"""Runs by the nodes of a real Ray cluster: what is killed, frozen or joins there, and a driver that is killed."""

from collections.abc import Callable

from cluster import Cluster, Node
from world import KEY, KEY_ENV, World, many


def remote(world: World, **changes: object) -> dict[str, object]:
    """What makes a run one by a cluster: images and receipts go where all of its nodes reach."""
    store = world.folder / "store"
    store.mkdir(exist_ok=True)
    return {"engine": "ray", "output": {"store": store.as_uri()}, **changes}


def joined(cluster: Cluster, count: int) -> list[Node]:
    nodes = [cluster.join({KEY_ENV: KEY}) for _ in range(count)]
    for node in nodes:
        node.wait()
    return nodes


def test_a_cluster_makes_what_one_machine_makes(world: World, cluster: Callable[..., Cluster]) -> None:
    ours = cluster()
    joined(ours, 2)
    manifest = world.write(**remote(world, prompts=many(40), limits={"concurrency": 8, "budget": 10}))
    done = world.command("run", str(manifest), "--yes", **ours.environ)
    assert done.returncode == 0, done.stderr
    print(done.stderr)
    world.check_equal_to_the_bill()
    assert world.rows("SELECT count(*) FROM attempts WHERE engine = 'ray' AND state = 'paid'") == [(40,)]
