"""What a cluster has is looked at while its tasks are under way: a task that none of its nodes can run any more is not waited for."""

import socket
from types import SimpleNamespace

import pytest

from tasks.io.system import ray_cluster
from tasks.io.system.ray_cluster import GB, Needs

SMALL, LARGE = {"CPU": 1.0, "memory": 2 * GB}, {"CPU": 8.0, "memory": 64 * GB, "GPU": 1.0}


@pytest.fixture
def watch(monkeypatch):
    """A function that watches a cluster with these nodes, whose server answers, after what is waited for has passed."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        context = SimpleNamespace(gcs_address=f"127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(ray_cluster, "PATIENCE_S", -1.0)

        def make(*nodes):
            listed = [{"Resources": node, "Alive": True} for node in nodes] + [{"Resources": LARGE, "Alive": False}]
            return ray_cluster._Watch(
                SimpleNamespace(get_runtime_context=lambda: context, nodes=lambda: listed), "here:1"
            )

        yield make


@pytest.mark.parametrize("needs", [Needs(4), Needs(1, 8.0), Needs(1, 0.0, 1)])
def test_a_task_that_only_a_lost_node_could_run_is_told(watch, needs):
    assert watch(SMALL, LARGE).num_processors({needs}) == 9
    with pytest.raises(
        RuntimeError, match=rf"No node .* here:1 has {needs}, which a task .* have: 1 cores, 2 GB of memory\."
    ):
        watch(SMALL).num_processors({Needs(), needs})
    with pytest.raises(RuntimeError, match=r"here:1 has no node left that could work"):
        watch().num_processors({needs})
