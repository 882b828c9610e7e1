"""A cluster of two nodes reads parts, finds near-duplicates and overlaps as this process does, whatever it loses."""

import json
import random
import socket
import sys
from types import ModuleType

import pytest

from tasks.core.text import near_duplicates, shingles
from tasks.io.sources.formats import json_lines
from tasks.io.system import files, ray_cluster
from tasks.io.system.workers import Workers
from tasks.stages.ingest.config import File, IngestConfig
from tasks.stages.ingest.shards import collection, parts, workers
from tasks.stages.ingest.shards.collection import Reader
from tasks.stages.ingest.shards.parts import parts_of
from tests import ray_nodes
from tests.stages.ingest.running import contents, ingest
from tests.support import ScratchRun


@pytest.fixture(scope="module")
def cluster():
    with ray_nodes.cluster() as started:
        yield started


@pytest.fixture
def nodes(cluster, monkeypatch):
    """The two nodes that work, while this process does not."""

    def is_done_here(*_):
        raise AssertionError("it was done here")

    monkeypatch.setenv("RATCHET_RAY", cluster.address)
    monkeypatch.setattr(workers, "write_part", is_done_here)
    for name in ("band_keys", "jaccard"):
        monkeypatch.setattr(near_duplicates, name, is_done_here)
    return ray_nodes.with_two_nodes(cluster)


class Interrupted(ScratchRun):
    """A run in the middle of which something happens, once three parts are done, or blocks of texts."""

    def __init__(self, folder, happens, unit="part"):
        super().__init__(folder)
        self._happens, self._unit, self.num_parts, self.num_done = happens, unit, 0, 0

    def track(self, items, **options):
        for item in super().track(items, **options):
            self.num_parts += options["unit"] == "part"
            self.num_done += options["unit"] == self._unit
            if options["unit"] == self._unit and self.num_done == 3:
                self._happens()
            yield item


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A file of some twenty parts."""
    monkeypatch.setattr(json_lines, "BLOCK", 40_000)
    rows = [{"prompt": f"What is {n}?", "completion": f"{'It is so. ' * 60}{n * n}."} for n in range(1_200)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    return File.model_validate({"from": "file", "path": str(path)})


def read(source, folder, happens=lambda: None):
    """Read the parts of a source into `folder/cache`; return their number, and those that were read now."""
    config = IngestConfig(sources=(source,))
    planned, run = list(parts_of(source, config)), Interrupted(folder, happens)
    with Workers() as some:
        Reader(config, folder / "cache", folder, run, some).read(planned)
    return len(planned), run.num_parts


@pytest.fixture
def lose_all(cluster, nodes, monkeypatch):
    """Takes every node away; who waits for another one waits a second."""
    monkeypatch.setattr(ray_cluster, "PATIENCE_S", 1.0)

    def lose():
        for node in nodes:
            cluster.remove_node(node, allow_graceful=False)

    return lose


@pytest.fixture
def no_node_left(cluster):
    """What is said then, as a pattern."""
    return rf"The Ray cluster {cluster.address} has no node left.*unset RATCHET_RAY"


@pytest.fixture
def alone(source, tmp_path):
    """The shards that this process makes of the source."""
    read(source, tmp_path / "alone")
    return contents(tmp_path / "alone/cache")


def test_a_node_that_is_lost_costs_no_byte_and_doubles_none(alone, cluster, nodes, source, tmp_path):
    num_parts, num_read = read(
        source, tmp_path / "together", lambda: cluster.remove_node(nodes[0], allow_graceful=False)
    )
    assert num_parts == num_read > 15
    assert contents(tmp_path / "together/cache") == alone


def test_a_cluster_that_loses_its_last_node_is_named_and_the_run_goes_on_without_it(
    alone, lose_all, no_node_left, source, tmp_path, monkeypatch
):
    with pytest.raises(RuntimeError, match=no_node_left):
        read(source, tmp_path / "lost", lose_all)
    folders = list((tmp_path / "lost/cache").iterdir())
    assert len(folders) >= 3
    assert all(parts.written(folder) is not None for folder in folders)
    monkeypatch.delenv("RATCHET_RAY")
    monkeypatch.setattr(workers, "write_part", parts.write_part)
    num_parts, num_read = read(source, tmp_path / "lost")
    assert num_read == num_parts - len(folders)
    assert contents(tmp_path / "lost/cache") == alone


def test_an_error_on_a_node_is_the_one_of_this_machine(nodes, source, tmp_path):
    config = IngestConfig(sources=(source,))
    planned = list(parts_of(source, config))
    source.path.write_text(source.path.read_text().replace("so", "no"))
    with Workers() as some, pytest.raises(ValueError, match=r"rows\.jsonl has changed while it was read"):
        Reader(config, tmp_path / "cache", tmp_path, ScratchRun(tmp_path), some).read(planned)
    assert not files.sibling(tmp_path / "cache").exists()


@pytest.mark.usefixtures("cluster")
def test_an_address_at_which_nobody_answers_is_told_at_once(source, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind((ray_nodes.HERE, 0))
        place = f"{ray_nodes.HERE}:{free.getsockname()[1]}"
    monkeypatch.setenv("RATCHET_RAY", place)
    with pytest.raises(RuntimeError, match=rf"No Ray cluster answers at {place} .*refused.*ray start --head"):
        read(source, tmp_path)


def test_without_ray_the_extra_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RATCHET_RAY", "auto")
    with pytest.raises(RuntimeError, match=r"RATCHET_RAY is auto, which needs Ray: `pip install 'ratchet-llm\[ray\]'`"):
        read(source, tmp_path)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A file of some fifteen parts and as many blocks of texts, with equal rows, near-duplicates, and rows that hold another one's answer."""
    monkeypatch.setattr(json_lines, "BLOCK", 30_000)
    monkeypatch.setattr(collection, "LARGE_BLOCK", 50)
    monkeypatch.setattr(near_duplicates, "CLASSES_AT_ONCE", 100)
    draw, rows = random.Random(0), []
    for number in range(1_200):
        question, answer = (
            " ".join(f"{draw.choice('bdfgk')}{draw.randrange(900)}" for _ in range(n)) for n in (12, 50)
        )
        if number % 4 == 1:
            answer = f"{rows[-1]['completion']} {draw.randrange(9)}"
        elif number % 4 == 2:
            answer = f"{answer} {rows[-2]['completion']} {answer[::-1]}"
        rows.append(rows[-3] if number % 20 == 3 else {"prompt": question, "completion": answer})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [{"from": "file", "path": str(path)}]


@pytest.fixture
def local(planted, tmp_path):
    """What this process makes of the planted rows."""
    _, report = ingest(tmp_path, planted, "local")
    assert {"duplicate", "near-duplicate", "leak"} <= report["dropped"].keys()
    files.remove(tmp_path / "cache")
    return contents(tmp_path / "local")


def test_a_node_that_is_lost_among_near_duplicates_costs_no_byte_and_doubles_none(
    local, cluster, nodes, planted, tmp_path
):
    run = Interrupted(tmp_path, lambda: cluster.remove_node(nodes[0], allow_graceful=False), "block")
    ingest(tmp_path, planted, "together", run=run)
    assert run.num_done > 24
    assert contents(tmp_path / "together") == local


def test_a_cluster_that_loses_its_last_node_among_near_duplicates_is_named_and_nothing_is_read_again(
    local, lose_all, no_node_left, planted, tmp_path, monkeypatch
):
    with pytest.raises(RuntimeError, match=no_node_left):
        ingest(tmp_path, planted, "lost", run=Interrupted(tmp_path, lose_all, "block"))
    assert not (tmp_path / "lost").exists()
    monkeypatch.delenv("RATCHET_RAY")
    for name in ("band_keys", "jaccard"):
        monkeypatch.setattr(near_duplicates, name, getattr(shingles, name))
    run, _ = ingest(tmp_path, planted, "lost")
    assert not any(unit == "part" for unit, _ in run.tracked)
    assert contents(tmp_path / "lost") == local


def sized(item):
    """The length of an item, and the item."""
    return len(item), item


def test_items_that_are_more_than_the_object_stores_hold_come_back_whole_and_in_order(cluster, nodes):
    """Stores of 80 MB each, and 300 MB on their way: Ray writes what has no room to its disk."""
    items = [bytes([number]) * (20 << 20) for number in range(15)]
    with ray_cluster.connected(cluster.address) as connected:
        for number, (length, item) in enumerate(connected.apply(sized, iter(items))):
            assert (length, item[:1], item[-1:]) == (20 << 20, bytes([number]), bytes([number]))
    assert number == 14


def test_a_node_that_lacks_a_module_is_named_with_what_to_do(cluster, nodes, monkeypatch):
    only_here = ModuleType("only_here")
    exec("def twice(item):\n    return 2 * item\n", vars(only_here))  # pickled by its name
    monkeypatch.setitem(sys.modules, "only_here", only_here)
    with (
        ray_cluster.connected(cluster.address) as connected,
        pytest.raises(
            RuntimeError, match=r"A node of the Ray cluster \S+ lacks the module only_here\. Install the same"
        ) as told,
    ):
        list(connected.apply(only_here.twice, [1, 2]))
    assert "\n" not in str(told.value)
