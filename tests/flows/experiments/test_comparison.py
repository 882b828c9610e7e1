"""Comparisons of compositions: fair searches, trials that are run once, and a table that says what it measured."""

import math
import shutil

import pytest

from flows.execution.cost import estimates
from flows.execution.cost.estimates import Range
from flows.experiments import recipes, results_table, search, trial_store, trials
from flows.experiments.recipes import Recipe, Trial
from tasks.core.records import Document
from tasks.io import tables
from tests.flows.conftest import ROOT
from tests.flows.experiments.conftest import TWO


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    """The repository's settings and recipes; what trials write goes elsewhere."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(trial_store, "FOLDER", tmp_path)


def course(*points):
    """A trial's result whose validation losses went through these (domain, general) points."""
    return {
        "measured": {
            "domain": [[10 * step, domain] for step, (domain, _) in enumerate(points)],
            "general": [[10 * step, general] for step, (_, general) in enumerate(points)],
        }
    }


def test_every_composition_has_as_many_learning_rates_and_every_seed(recipe):
    searched = search.grid(recipe)
    assert {name: sum(t.composition == name for t in searched) for name in TWO["compositions"]} == {
        "lora": 4,
        "full": 4,
    }
    assert not any(trial.test for trial in searched), "test data choose nothing"
    finals = search.finals(recipe, {"lora": 1e-3, "full": 1e-4})
    assert [(t.composition, t.rate, t.seed) for t in finals] == [
        (None, 0.0, 0),
        ("lora", 1e-3, 0),
        ("lora", 1e-3, 1),
        ("full", 1e-4, 0),
        ("full", 1e-4, 1),
    ]


def test_the_rate_of_the_lowest_validation_loss_is_taken(recipe):
    results = {trial: {"validation": abs(trial.rate - 3e-4)} for trial in search.grid(recipe)}
    assert search.best_rates(recipe, results) == {"lora": 3e-4, "full": 3e-4}


def test_a_choice_among_few_rates_is_refused():
    few = Recipe.model_validate(TWO | {"learning_rates": [1e-3, 1e-4, 1e-3, 1e-3]})
    with pytest.raises(ValueError, match=r"learning_rates of lora: .* at least 4 different values \(found 2\)"):
        search.grid(few)


def test_a_rate_that_diverged_is_never_the_best(recipe):
    results = {
        trial: {"validation": float("nan") if trial.rate == 1e-4 else trial.rate} for trial in search.grid(recipe)
    }
    assert search.best_rates(recipe, results) == {"lora": 3e-4, "full": 3e-4}
    nothing = {trial: {"validation": float("nan")} for trial in search.grid(recipe)}
    with pytest.raises(ValueError, match="lora, full: no learning rate gave a finite validation loss"):
        search.best_rates(recipe, nothing)


@pytest.fixture
def losses(monkeypatch):
    """Trials end at once, in a validation loss that is a function of the rate; what ran, in order."""

    def of(loss, before=math.inf):
        ran = []

        def execute(recipe, name, trials, parent, earlier):
            ran.extend(trials)
            course = [(0, before), (1000, before)]
            return {trial: {"validation": loss(trial.rate), "measured": {"validation": course}} for trial in trials}

        monkeypatch.setattr(trials, "execute", execute)
        return ran

    return of


@pytest.mark.parametrize(
    ("best", "further", "open_end"),
    [
        (3e-4, [], None),
        (8e-3, [9e-3, 2.7e-2], None),
        (4e-5, [3.33e-5, 1.11e-5], None),
        (1.0, [9e-3, 2.7e-2, 8.1e-2], 0.243),
    ],
)
def test_a_search_goes_on_beyond_the_rates_while_the_best_is_the_first_or_the_last_three_times_at_most(
    losses, best, further, open_end
):
    recipe = Recipe.model_validate({"compositions": {"lora": {"adapter": "lora"}}})
    ran = losses(lambda rate: abs(rate - best) / min(rate, best))
    results = search.choose(recipe, "x", "parent")
    assert [trial.rate for trial in ran] == [*recipes.RATES, *further]
    chosen = search.best_rates(recipe, results)["lora"]
    assert chosen == min((trial.rate for trial in ran), key=lambda rate: abs(rate - best) / min(rate, best))
    assert search.beyond("lora", chosen, results) == open_end


@pytest.mark.parametrize(
    ("loss", "further"),
    [
        (lambda rate: 2.0 + abs(rate - 3e-4), [9e-3, 2.7e-2, 8.1e-2]),  # level everywhere
        (lambda rate: 2.0 + rate, [9e-3, 2.7e-2, 8.1e-2]),  # the smallest is the best of the bad ones
        (lambda rate: 2.0 + rate if rate < 2e-3 else float("nan"), [3.33e-5, 1.11e-5, 3.7e-6]),
        (lambda rate: 2.0 + abs(rate - 3e-4) if rate < 1e-2 else 1.0, [9e-3, 2.7e-2, 8.1e-2]),
        (lambda rate: 2.0 + abs(rate - 3e-4) if rate < 2e-2 else 1.0 + rate, [9e-3, 2.7e-2, 8.1e-2]),
        (lambda rate: 2.0 + abs(rate - 3e-4) if rate < 2e-3 else float("nan"), []),
        (lambda rate: 2.0 + abs(rate - 3e-4) if rate < 5e-3 else float("nan"), [9e-3]),
        (lambda rate: 1.0 + abs(rate - 3e-4), []),
    ],
)
def test_a_search_that_finds_nothing_better_than_no_training_goes_on_with_larger_rates_unless_the_largest_diverged(
    losses, loss, further
):
    recipe = Recipe.model_validate({"compositions": {"lora": {"adapter": "lora"}}})
    ran = losses(loss, before=1.5)
    search.choose(recipe, "x", "parent")
    assert [trial.rate for trial in ran] == [*recipes.RATES, *further]


def test_a_rate_beyond_that_diverges_ends_the_search(losses):
    recipe = Recipe.model_validate({"compositions": {"lora": {"adapter": "lora"}}})
    ran = losses(lambda rate: 1 / rate if rate < 5e-3 else float("nan"))
    results = search.choose(recipe, "x", "parent")
    assert [trial.rate for trial in ran] == [*recipes.RATES, 9e-3]
    assert search.best_rates(recipe, results) == {"lora": 3e-3}


def test_a_composition_without_rates_is_named():
    some = Recipe.model_validate(TWO | {"learning_rates": {"lora": [1e-4, 3e-4, 1e-3, 3e-3]}})
    with pytest.raises(ValueError, match=r"learning_rates of full: .* \(found 0\)"):
        search.grid(some)


def test_methods_named_on_the_command_line_are_compositions_of_their_family():
    name, recipe = recipes.read(["lora", "lisa"], seeds=2, tokens=None)
    assert name == "lora-lisa"
    assert recipe.seeds == (0, 1)
    assert recipe.compositions["lora"] == {"adapter": "lora", "selector": "all"}
    assert recipe.compositions["lisa"] == {"adapter": "none", "selector": "lisa"}


def test_a_recipe_that_is_not_there_and_a_method_that_is_named_twice_are_reported():
    with pytest.raises(FileNotFoundError, match=r"There is no recipe params/compare/nothere\.yaml\. There are: "):
        recipes.read(["params/compare/nothere.yaml"])
    with pytest.raises(ValueError, match="lora is named twice"):
        recipes.read(["lora", "dora", "lora"])


def test_seeds_are_a_list_or_so_many_from_0_on():
    best = {"full": 1e-3, "lora": 1e-3}
    for given, trained in ((2, (0, 1)), ([5, 7], (5, 7))):
        listed = Recipe.model_validate(TWO | {"seeds": given})
        assert {trial.seed for trial in search.finals(listed, best) if trial.composition} == set(trained)
        assert Recipe.model_validate(listed.model_dump()) == listed
    for none in (0, [], [0, 1, 0]):
        with pytest.raises(ValueError, match="seeds"):
            Recipe.model_validate(TWO | {"seeds": none})


def test_an_unknown_name_is_answered_with_near_ones_and_the_recipes():
    with pytest.raises(ValueError, match=r"lorra.*lora.*Recipes: .*mola"):
        recipes.read(["lorra"])


def test_what_does_not_train_is_not_compared():
    with pytest.raises(ValueError, match=r"proxy_tuning is one of the decoders, which do not train.*Recipes: "):
        recipes.read(["lora", "proxy_tuning"])


SHIPPED = {path.stem: "benchmark:" in path.read_text() for path in sorted((ROOT / recipes.RECIPES).glob("*.yaml"))}


@pytest.mark.parametrize("file", [name for name, has_script in SHIPPED.items() if has_script])
def test_a_recipe_that_a_script_runs_says_so(file):
    with pytest.raises(ValueError, match=rf"`python benchmarks/{file}.py` runs it"):
        recipes.read([file])
    assert (ROOT / f"benchmarks/{file}.py").is_file()


@pytest.mark.parametrize("file", [name for name, has_script in SHIPPED.items() if not has_script])
def test_every_shipped_recipe_makes_settings_that_are_whole(file):
    _, recipe = recipes.read([file])
    assert (ROOT / f"params/{recipe.profile}.yaml").is_file()
    compositions = {trial.composition: trial for trial in search.grid(recipe)}
    for trial in compositions.values():  # those of one composition differ by numbers alone
        assert (trials.write_folder(recipe, file, trial) / "params.yaml").is_file()


def test_a_recipe_without_its_data_names_the_profile_that_has_them(tmp_path, monkeypatch):
    _, recipe = recipes.read(["selectors"])
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)  # the repository may have data of its own
    with pytest.raises(
        FileNotFoundError, match=r"`ratchet run pretrain` makes.*profile lab-telecom: `ratchet use lab-"
    ):
        recipes.check_inputs(recipe.stage, recipe.profile)


def test_a_recipe_on_other_data_names_its_profile_and_on_its_own_what_is_missing(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / "params/micro.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    table = tmp_path / recipes.TESTS["pretrain"]
    table.parent.mkdir(parents=True)
    tables.write(table, [Document("1", "text", "general", "group", "test", "source", "MIT")], Document)
    assert not recipes.has_data_of("lab-telecom")
    with pytest.raises(ValueError, match=r"domain_text.*profile lab-telecom: `ratchet use lab-telecom` first"):
        recipes.check_test("pretrain", "lab-telecom")

    shutil.copy(tmp_path / "params/lab-telecom.yaml", tmp_path / "params.yaml")
    assert recipes.has_data_of("lab-telecom")
    with pytest.raises(ValueError, match="Hold something out in `ingest`"):
        recipes.check_test("pretrain", "lab-telecom")
    with pytest.raises(FileNotFoundError, match=r"makes what a comparison needs\.$"):
        recipes.check_inputs("pretrain", "lab-telecom")


@pytest.mark.parametrize(("domain", "is_empty"), [("general", True), ("telecom", False), ("domain", False)])
def test_a_pretraining_is_measured_by_texts_of_the_domain(tmp_path, domain, is_empty):
    row = Document("1", "text", domain, "group", "test", "source", "MIT")
    tables.write(tmp_path / "test_documents.parquet", [row], Document)
    assert recipes._is_empty(tmp_path / "test_documents.parquet", "pretrain") == is_empty


def test_a_trials_folder_follows_from_its_settings_alone(recipe):
    first = trials.write_folder(recipe, "first", Trial("lora", 1e-3, 0, False))
    assert trials.write_folder(recipe, "second", Trial("lora", 1e-3, 0, False)) == first
    others = [Trial("lora", 1e-4, 0, False), Trial("lora", 1e-3, 1, False), Trial("full", 1e-3, 0, False)]
    assert len({first, *(trials.write_folder(recipe, "first", trial) for trial in others)}) == 4


def test_what_a_recipe_changes_for_all_is_in_every_trial_and_in_the_bases():
    changed = Recipe.model_validate(
        TWO | {"changes": {"tune": {"pack_tokens": 256}, "evaluate": {"pass_items": 3}}, "tokens": 1000}
    )
    for trial in (Trial("lora", 1e-3, 0, True), Trial(None, 0.0, 0, True)):
        whole = trials.sections_of(changed, trial)
        assert (whole["tune"]["pack_tokens"], whole["evaluate"]["pass_items"]) == (256, 3)
        assert whole["tune"]["objective"] == "cross_entropy", "what is not named stays"


def test_settings_that_are_edited_while_a_comparison_works_change_no_trial_that_comes(recipe, monkeypatch, tmp_path):
    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params/micro.yaml", params)
    monkeypatch.chdir(tmp_path)
    first = trials.sections_of(recipe, Trial("lora", 1e-3, 0, False))
    params.write_text(params.read_text().replace("pack_tokens: 512", "pack_tokens: 77"))
    later = trials.sections_of(recipe, Trial("lora", 1e-3, 1, True))
    assert first["tune"]["pack_tokens"] == later["tune"]["pack_tokens"] == 512
    assert Recipe.model_validate(recipe.model_dump()).settings["tune"]["pack_tokens"] == 77


def test_keys_are_written_as_people_write_them(recipe, monkeypatch, tmp_path):
    text = (
        (ROOT / "params/workstation.yaml")
        .read_text()
        .replace("faults: {sources: []}", "faults: {sources: [{from: mutation}]}")
    )
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    whole = trials.sections_of(recipe, Trial("lora", 1e-3, 0, False))
    assert whole["faults"]["sources"][0]["from"] == "mutation"


def test_a_section_that_a_recipe_changes_and_no_stage_has_is_named():
    wrong = Recipe.model_validate(TWO | {"changes": {"tuen": {"pack_tokens": 256}}})
    with pytest.raises(ValueError, match="tuen"):
        trials.write_folder(wrong, "wrong", Trial("lora", 1e-3, 0, False))


def test_the_time_of_a_comparison_is_that_of_its_trainings_and_tests(recipe, monkeypatch):
    def estimate(low, high):
        return estimates.StageEstimate(Range(low, high), None, None, "other settings", 1)

    asked = []
    monkeypatch.setattr(
        estimates, "for_training", lambda stage, tokens: asked.append(tokens) or estimate(tokens, 2 * tokens)
    )
    monkeypatch.setattr(estimates, "for_stages", lambda stages: {"evaluate": estimate(10, 20)})
    found = trials.duration(recipe.model_copy(update={"search_tokens": 100}))
    # 8 trainings of 100 tokens choose the rates, 4 of 1,000 are measured, and so is the base.
    assert found == (Range(8 * 100 + 4 * 1000 + 5 * 10, 8 * 200 + 4 * 2000 + 5 * 20), "other settings")
    assert asked == [100, 1000]


def test_of_what_is_not_known_no_time_is_reported(recipe, monkeypatch):
    monkeypatch.setattr(estimates, "for_training", lambda stage, tokens: None)
    monkeypatch.setattr(estimates, "for_stages", lambda stages: {})
    assert trials.duration(recipe) is None


def test_forgetting_is_compared_where_the_domain_loss_is_equal():
    first = course((3.0, 1.0), (2.0, 1.2), (1.0, 1.6))
    other = course((3.0, 1.0), (1.5, 1.3))
    # Both reach 1.5: the first half-way between its last points, at 1.4, the other at 1.3.
    found = results_table.matched([first, first], [other, other])
    assert found.value == pytest.approx(-0.1)
    assert math.isinf(found.high), "equal figures show no spread"


def test_a_training_that_never_helped_is_where_it_started():
    stuck = course((3.0, 1.0), (3.2, 1.5))
    assert results_table.matched([course((3.0, 1.0), (2.0, 1.2))], [stuck]).value == 0


def test_without_both_losses_nothing_is_matched():
    row = {"measured": {"validation": [[0, 1.0]]}}
    assert results_table.matched([row], [row]) is None
