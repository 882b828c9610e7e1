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
def test_a_task_that_only_a_lost_node_could_run_is_reported(watch, needs):
    assert watch(SMALL, LARGE).num_processors({needs}) == 9
    with pytest.raises(
        RuntimeError, match=rf"No node .* here:1 has {needs}, which a task .* have: 1 cores, 2 GB of memory\."
    ):
        watch(SMALL).num_processors({Needs(), needs})
    with pytest.raises(RuntimeError, match=r"here:1 has no node left that could work"):
        watch().num_processors({needs})


class Full(Exception):
    """Stands for Ray's error."""


@pytest.mark.parametrize("of_ray", ["ObjectStoreFullError", "OutOfDiskError"])
def test_a_full_object_store_is_one_message(of_ray):
    def put(value):
        raise Full("Failed to put object of 300 MB.\nThe local object store is full.")

    errors = {name: type(name, (Exception,), {}) for name in ("ObjectStoreFullError", "OutOfDiskError")}
    ray = SimpleNamespace(
        put=put, remote=lambda **_: lambda function: function, exceptions=SimpleNamespace(**errors | {of_ray: Full})
    )
    made = ray_cluster.Cluster(ray, "here:1")
    with pytest.raises(
        RuntimeError,
        match=r"The object store of the Ray cluster here:1 is full \(Failed to put object of 300 MB\.\)\. .*--object-store-memory",
    ) as told:
        made._put(len)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":6379", "localhost:ray", "localhost:99999"])
def test_an_address_without_host_or_port_is_told_as_such(address):
    ray = SimpleNamespace(init=None)
    with pytest.raises(RuntimeError, match=rf"No Ray cluster answers at {address} \(HOST:PORT is wanted\)"):
        ray_cluster._connect(ray, address, ray_cluster.ENVIRONMENT)
