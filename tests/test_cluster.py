"""The cluster of the tests: nodes have their own keys, workers outlive drivers, and in the end nothing is left."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

from cluster import Cluster

DRIVER = """
import json, os, sys
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

ray.init(address="auto", namespace="tests", log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=0)
class Worker:
    def place(self):
        return os.environ.get("OPENAI_API_KEY"), os.getpid()

ids = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes()}
def worker(address):
    how = {"lifetime": "detached", "get_if_exists": True, "scheduling_strategy": On(ids[address], soft=False)}
    return Worker.options(name=ids[address], **how).remote()

print(json.dumps(ray.get([worker(address).place.remote() for address in sys.argv[1:]])))
"""


def drive(cluster: Cluster, *addresses: str) -> list[tuple[str, int]]:
    """The key and the process of a worker on each of these nodes."""
    env = {**os.environ, **cluster.environ, "OPENAI_API_KEY": "the driver's"}
    out = subprocess.run(
        [sys.executable, "-c", DRIVER, *addresses], env=env, capture_output=True, text=True, check=True
    )
    return [(key, pid) for key, pid in json.loads(out.stdout.splitlines()[-1])]  # Ray itself may say something, too


def test_nodes_work_with_their_own_keys_die_whole_are_joined_by_others_and_leave_nothing(
    cluster: Callable[..., Cluster],
) -> None:
    ours = cluster()
    first, second = ours.join({"OPENAI_API_KEY": "one"}), ours.join({"OPENAI_API_KEY": "two"})
    first.wait()
    second.wait()
    (one, stays), (two, dies) = drive(ours, first.address, second.address)
    assert (one, two) == ("one", "two")
    assert dies in second.members()
    second.kill()
    assert not second.members()
    third = ours.join({"OPENAI_API_KEY": "three"})
    third.wait()
    again = drive(ours, first.address, third.address)
    assert again[0] == ("one", stays), "the worker did not outlive its driver"
    assert again[1][0] == "three"
    first.freeze()
    ours.end()
    assert not [pid for node in ours.nodes for pid in node.members()]
    assert not ours.home.exists()
