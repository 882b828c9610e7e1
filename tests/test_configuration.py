"""`params.yaml` is one typed file: what stages declare, and what methods take."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks import configuration, methods
from tasks.core.config import Config
from tasks.core.records import LOSSES, STRONG_PASS

ROOT = Path(__file__).resolve().parents[1]
STAGES = configuration.stage_names()
GOOD = {
    "compute": {"threads": 1},
    "fetch": {"model": {"from": "config"}},
    "ingest": {},
    "tune": {"adapter": "lora"},
    "methods": {"lora": {"rank": 4}, "none": {}, "all": {}, "adamw": {}, "cross_entropy": {}, "plain": {}, "middo": {}},
    "evaluate": {},
    "report": {},
    "rounds": {"r0": {}},
    "turns": {},
    "models": {
        "base": {"group": "reference", "path": "models/base", "base": "models/base"},
        "r0": {"group": "rounds", "path": "models/tuned/r0", "base": "models/pretrained"},
    },
}


@pytest.fixture
def load(tmp_path):
    """The settings of GOOD with these sections instead of its own."""

    def of(**sections):
        # Sections of stages that this test does not speak of stand at their shipped values.
        shipped = yaml.safe_load((ROOT / "params/workstation.yaml").read_text())
        text = yaml.safe_dump(
            {**shipped, **{k: v for k, v in GOOD.items() if k not in ("ingest", "report")}, **sections}
        )
        (tmp_path / "params.yaml").write_text(text)
        return configuration.load(tmp_path / "params.yaml")

    return of


def test_a_good_file_is_read(load):
    found = load()
    assert found.tune.adapter == "lora"
    assert found.fetch.model.from_ == "config"
    assert found.models["r0"].path == "models/tuned/r0"


GENERATED = {"sources": [{"from": "reasoning-gym", "tasks": {"gcd": {}}}]}
TURNED = {
    "rounds": {"r0": {}, "r1": {}},
    "turns": {"r1": {"prev": "r0"}},
    "methods": {**GOOD["methods"], "failures": {}},
    "ingest": GENERATED,
    "diagnose": {"curator": "failures"},
    "refine": {"generator": {"from": "tasks"}},
}
"""A turn that adds new tasks by what the model fails."""


def test_a_turn_of_new_tasks_has_its_curator_its_generator_and_a_source(load):
    assert load(**TURNED).diagnose.curator == "failures"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"refine": {"generator": {"from": "rules"}}}, r"\{from: rules\} does not go with diagnose.curator: failures"),
        ({"diagnose": {"curator": "middo"}}, r"\{from: tasks\} does not go with diagnose.curator: middo"),
        (
            {"ingest": {"sources": [{"from": "package", "name": "toolz"}]}},
            "no source of `ingest.sources` generates any",
        ),
    ],
)
def test_a_turn_of_new_tasks_without_one_of_them_is_refused(load, changed, message):
    with pytest.raises(ValueError, match=message):
        load(**TURNED | changed)


def test_a_bank_goes_with_one_round(load):
    with pytest.raises(ValueError, match=r"tune\.bank: task goes with one round: a turn diagnoses one model"):
        load(**TURNED | {"tune": {"adapter": "lora", "bank": "task"}})
    load(tune={"adapter": "lora", "bank": "task"})


def test_replay_goes_with_no_weights_that_follow_validation_losses(load):
    methods = {**GOOD["methods"], "mftcoder": {"balance": "coba"}}
    tune = {**GOOD["tune"], "objective": "mftcoder"}
    with pytest.raises(
        ValueError, match=r"tune\.replay: 0\.2 does not go with objective 'mftcoder' .*methods\.mftcoder\.balance: none"
    ):
        load(methods=methods, tune=tune | {"replay": 0.2})
    load(methods=methods, tune=tune)
    load(methods=methods | {"mftcoder": {}}, tune=tune | {"replay": 0.2})


def test_a_router_needs_a_bank(load):
    with pytest.raises(
        ValueError, match=r"evaluate\.router: task chooses among the adapters of a bank, and there is none"
    ):
        load(evaluate={"router": "task"}, methods=GOOD["methods"] | {"task": {}})


def test_a_level_that_no_monitor_can_reach_is_refused_with_the_permutations_that_would_do(load):
    message = r"monitor\.alpha: 0\.001 .* a level of 0\.0005, and no p-value of mmd is less than 1 / 1000.*methods\.mmd\.permutations: 2000"
    with pytest.raises(ValueError, match=message):
        load(monitor={"alpha": 0.001})
    enough = {"mmd": {"permutations": 2000}, "loss_gap": {"permutations": 2000}}
    assert load(monitor={"alpha": 0.001}, methods=GOOD["methods"] | enough).monitor.alpha == 0.001


def test_a_monitor_that_is_named_twice_has_the_level_of_one(load):
    thrice = {"alpha": 0.002, "methods": ["mmd", "mmd", "mmd"]}
    assert load(monitor=thrice).monitor.alpha == 0.002


def test_a_monitor_whose_p_value_is_exact_reaches_every_level(load, monkeypatch):
    exact = dataclasses.replace(methods.spec("monitors", "mmd"), config=Config)
    monkeypatch.setattr(methods, "spec", lambda family, name: exact)
    assert load(monitor={"alpha": 0.001, "methods": ["mmd"]}).monitor.alpha == 0.001


def test_without_turns_no_generator_is_asked_for(load):
    assert load(**TURNED | {"rounds": {"r0": {}}, "turns": {}, "refine": {"generator": {"from": "rules"}}}).turns == {}


def test_every_stage_of_the_graph_has_settings_and_files():
    assert {"fetch", "ingest", "tune", "evaluate", "report"} <= set(STAGES)
    for stage in STAGES:
        assert configuration.declaration(stage).writes
        assert set(configuration.stage_config_type(stage).model_fields) <= set(configuration.schema().model_fields)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"methods": {**GOOD["methods"], "lorra": {}}},
            r":\d+: methods\.lorra: there is no such key. Did you mean lora",
        ),
        (
            {"methods": {**GOOD["methods"], "lora": {"rnak": 4}}},
            r":\d+: methods\.lora\.rnak: there is no such key. Did you mean rank\?",
        ),
        ({"methods": {**GOOD["methods"], "lora": {"rank": 0}}}, r":\d+: methods\.lora\.rank: .*\(found 0\)"),
        (
            {"tune": {"adapter": "dora_the_explorer"}},
            r"tune\.adapter: adapters has no method 'dora_the_explorer'.*lora",
        ),
        ({"methods": {**GOOD["methods"], "all": None}}, r"methods\.all is missing. Write `all: \{\}`"),
        ({"fetch": {"model": {"from": "config", "hiden": 8}}}, r"fetch\.model\.hiden: there is no such key.*hidden"),
        ({"fetch": {"model": {"from": "moon"}}}, r"fetch\.model.*'moon'"),
        ({"fetch": {"model": {"from": "hub", "id": "a/b", "revision": "main"}}}, r"fetch\.model\.revision.*'main'"),
        ({"tune": {"max_tokens": -1}}, r"tune\.max_tokens: .*\(found -1\)"),
        (
            {"models": {"r0": {"group": "rounds", "base": "models/pretrained"}}},
            r"models\.r0\.path: this key is missing",
        ),
        ({"rounds": {"r0": {"prev": "r1"}}}, r"rounds\.r0\.prev: there is no such key"),
        ({"tuen": {}}, r"tuen: there is no such key. Did you mean tune or turns\?"),
    ],
)
def test_a_mistake_is_named_with_what_would_do(load, sections, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(**sections)
    assert "params.yaml" in str(caught.value)


def test_a_mistake_in_a_methods_section_has_its_line(load, tmp_path):
    with pytest.raises(ValueError, match="rnak") as caught:
        load(methods={**GOOD["methods"], "lora": {"rnak": 4}})
    lines = (tmp_path / "params.yaml").read_text().splitlines()
    assert f"params.yaml:{lines.index('    rnak: 4') + 1}: methods.lora.rnak: " in str(caught.value)


def test_mistakes_of_several_methods_come_at_once(load):
    with pytest.raises(ValueError, match="rnak") as caught:
        load(methods={**GOOD["methods"], "lora": {"rnak": 4}, "adamw": {"learning_rate": -1}})
    assert "learning_rate" in str(caught.value)


def test_a_stage_sees_its_own_sections_and_the_methods_it_composes(load):
    found = configuration.for_stage("tune", load())
    assert set(type(found).model_fields) == {"compute", "tune", "methods"}
    assert set(found.methods) == {"lora", "none", "all", "adamw", "cross_entropy"}


def test_the_parts_of_a_stage_are_what_the_settings_name(load):
    assert configuration.parts("tune", load()) == {
        "bases": "none",
        "expanders": "none",
        "adapters": "lora",
        "selectors": "all",
        "optimizers": "adamw",
        "objectives": "cross_entropy",
        "sparsifiers": "none",
    }
    assert configuration.parts("fetch", load()) == {}


def test_the_files_of_an_item_are_its_own(load):
    reads, writes = configuration.files("evaluate", "r0", load())
    assert reads["model"] == Path("models/tuned/r0")
    assert writes["metrics"] == Path("data/metrics/rounds/r0.json")


@pytest.mark.parametrize(
    ("stage", "item", "message"),
    [
        ("tune", "r7", r"Stage tune has no item 'r7'. params.yaml has rounds: r0\."),
        ("tune", None, r"Stage tune has no item None. params.yaml has rounds: r0\."),
        ("evaluate", "r7", r"has models: base, r0\."),
        ("fetch", "r0", r"Stage fetch has no items, but was asked for 'r0': `python -m tasks.run fetch`"),
    ],
)
def test_an_item_that_is_not_there_is_refused(load, stage, item, message):
    with pytest.raises(ValueError, match=message):
        configuration.files(stage, item, load())


@pytest.fixture
def key(load, monkeypatch):
    """The key of a stage under these sections, its inputs in the temporary folder."""

    def of(stage, item=None, **sections):
        return configuration.key(stage, item, load(**sections))

    return of


def test_the_key_of_a_stage_follows_from_its_inputs_and_settings(key, tmp_path):
    first = key("tune", "r0")
    assert key("tune", "r0") == first
    assert key("tune", "r0", tune={"adapter": "lora", "seed": 1}) != first
    assert key("tune", "r0", methods={**GOOD["methods"], "lora": {"rank": 5}}) != first
    (tmp_path / "models/pretrained").mkdir(parents=True)
    (tmp_path / "models/pretrained/config.json").write_text("{}")
    assert key("tune", "r0") != first


def test_items_have_one_key_where_their_inputs_have_one_content(key, tmp_path):
    models = {name: {"group": "rounds", "path": f"models/tuned/{name}", "base": "models/pretrained"} for name in "ab"}
    for name in models:
        (tmp_path / f"models/tuned/{name}").mkdir(parents=True)
        (tmp_path / f"models/tuned/{name}/weights").write_text("1")
    assert key("evaluate", "a", models=models) == key("evaluate", "b", models=models)
    (tmp_path / "models/tuned/b/weights").write_text("22")
    assert key("evaluate", "a", models=models) != key("evaluate", "b", models=models)


def test_the_key_of_a_stage_does_not_follow_from_others_settings(key):
    first = key("tune", "r0")
    assert key("tune", "r0", evaluate={"pass_items": 1}) == first
    assert key("tune", "r0", methods={**GOOD["methods"], "ia3": {}}) == first


def test_the_code_of_a_stage_is_its_imports_and_the_methods_it_composes(load, tmp_path, monkeypatch):
    found = load()
    monkeypatch.chdir(ROOT)
    files = {path.as_posix() for path in configuration.code("tune", found)}
    assert {"tasks/stages/tune/stage.py", "tasks/engine/packing.py", "tasks/methods/adapters/lora/method.py"} <= files
    assert {"tasks/methods/adapters/_peft.py", "tasks/methods/adapters/lora/__init__.py"} <= files
    assert not any(path.startswith("tasks/methods/adapters/none/") for path in files)
    assert "tasks/methods/adapters/_peft.py" not in {
        path.as_posix() for path in configuration.code("tune", load(tune={"adapter": "none"}))
    }
    assert not any(path.startswith("tasks/stages/fetch/") for path in files)


@pytest.mark.parametrize("family", methods.families())
def test_a_method_that_is_not_there_is_refused_with_near_matches(family):
    known = methods.names(family)[0]
    with pytest.raises(ValueError, match=rf"{family} has no method '{known}x'. Did you mean .*{known}"):
        methods.load(family, known + "x")
    with pytest.raises(ValueError, match="There are: "):
        methods.load(family, "0123456789")


def test_a_method_is_found_by_its_name_alone():
    assert methods.families_of("lora") == ["adapters"]
    assert {"adapters", "expanders"} <= set(methods.families_of("none"))
    with pytest.raises(ValueError, match=r"There is no method 'lorra'\. Did you mean .*lora"):
        methods.families_of("lorra")


def test_a_method_is_described_by_its_own_file():
    found = methods.describe("adapters", "lora")
    assert found.title == "LoRA: a frozen weight plus a trained product of two thin matrices"
    assert found.paper == "https://arxiv.org/abs/2106.09685"
    assert found.wraps == "peft.LoraConfig"
    assert found.mergeable
    assert methods.describe("selectors", "s2ft").mergeable
    assert methods.describe("expanders", "adept").mergeable is False
    assert {methods.describe(*method).mergeable for method in (("selectors", "lisa"), ("optimizers", "adamw"))} == {
        None
    }


def test_settings_and_every_method_are_read_without_the_heavy_libraries(load, tmp_path):
    load()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tasks import configuration, methods\n"
        "configuration.load(Path('params.yaml'))\n"
        "[methods.spec(family, name) for family in methods.families() for name in methods.names(family)]\n"
        "heavy = {'torch', 'transformers', 'peft', 'mlflow', 'datasets', 'prefect', 'dvc', 'sentence_transformers'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_settings_are_read_without_libraries_that_start_threads_or_take_long():
    code = (
        "import sys\nfrom tasks import configuration\nconfiguration.load()\n"
        "sys.exit(' '.join({'polars', 'pyarrow', 'torch', 'duckdb'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # the fork server reads them before it forks


def test_profile_full_guards_an_accuracy_for_which_its_gate_set_is_measured():
    config = configuration.load(ROOT / "params/full.yaml")
    accuracies = set(config.gate.margins) - set(LOSSES)
    assert accuracies == {STRONG_PASS}
    assert config.evaluate.strength, "by which tests are strong"
    assert config.ingest.splits.gate > 0
    assert config.evaluate.gate_items >= 40, "so many unchanged answers exclude a fall of ten points"
    assert 0.1 < config.gate.margins[STRONG_PASS] < 0.5, "a margin that so many items can decide"


@pytest.mark.parametrize("profile", sorted((ROOT / "params").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_profile_that_guards_answers_has_them_measured(profile):
    config = configuration.load(profile)
    assert config.evaluate.gate_items or set(config.gate.margins) <= set(LOSSES)
