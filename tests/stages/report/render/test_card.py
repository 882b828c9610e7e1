"""The model card is read by the hub's own library, and its tables by GitHub."""

import re

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tests.stages.report.material import PRETRAINING, Round, results, run_stage

MODELS = {"base": results(passed=[True, False]), "r0": results(1.5, passed=[True, True])}
DELIMITER = re.compile(r"\|(?: *:?-+:? *\|)+")


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    folder, _ = run_stage(tmp_path_factory.mktemp("card"), MODELS)
    return (folder / "README.md").read_text(encoding="utf-8")


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_every_table_has_as_many_cells_in_each_line_as_headers(card):
    """GitHub renders no table whose delimiters are not as many as its headers."""
    lines = card.splitlines()
    places = [place for place, line in enumerate(lines) if DELIMITER.fullmatch(line)]
    assert len(places) == 5
    for place in places:
        table = [lines[place - 1]]
        for line in lines[place:]:
            if not line.startswith("|"):
                break
            table.append(line)
        assert len({cells(line) for line in table}) == 1, table


def test_the_library_of_the_hub_reads_its_metadata_and_results(card):
    """`ModelCard.validate` asks the hub; what the library checks by itself are the YAML, its fields, and `model-index`."""
    data = ModelCard(card, ignore_metadata_errors=False).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
    assert data.model_name == "r0"
    by_metric = {result.metric_name.partition(",")[0]: result for result in data.eval_results}
    assert by_metric["pass@1 (all) %"].metric_value == 100.0
    assert by_metric["domain loss nats per token"].metric_value == 1.5
    name, read_again = model_index_to_eval_results(data.to_dict()["model-index"])
    assert (name, read_again) == ("r0", data.eval_results)


def test_every_result_stands_under_its_own_items(card):
    """The hub merges results of one type, config and split under the name of the first."""
    measured = {
        (entry["dataset"]["config"], entry["dataset"]["name"]): [
            metric["name"].partition(",")[0] for metric in entry["metrics"]
        ]
        for entry in ModelCard(card).data.to_dict()["model-index"][0]["results"]
    }
    assert measured == {
        ("domain", "held-out examples of the domain, 8 items"): ["domain loss nats per token"],
        ("domain_text", "held-out texts of the domain, 8 items"): ["domain text loss nats per token"],
        ("general", "held-out general texts, 8 items"): ["general loss nats per token"],
        ("pass@1 (short)", "held-out tasks of the domain: short, 1 item"): ["pass@1 (short) %"],
        ("pass@1 (long)", "held-out tasks of the domain: long, 1 item"): ["pass@1 (long) %"],
        ("pass@1 (all)", "held-out tasks of the domain, 2 items"): ["pass@1 (all) %"],
    }


def test_a_base_of_the_hub_is_linked_and_any_other_is_not(card, tmp_path, monkeypatch):
    assert ModelCard(card).data.base_model is None
    from tests.stages.report import material

    write = material._write

    def with_hub(path, value):
        source = {"from": "hub", "id": "Qwen/Qwen2.5-0.5B", "revision": "0123", "license": "Some Licence"}
        write(path, {**value, "source": source} if path.name == "ratchet.json" else value)

    monkeypatch.setattr(material, "_write", with_hub)
    folder, _ = run_stage(tmp_path, MODELS)
    data = ModelCard((folder / "README.md").read_text()).data
    assert data.base_model == "Qwen/Qwen2.5-0.5B"
    assert (data.license, data.license_name) == ("other", "some-licence")


def test_it_names_the_round_that_was_chosen_what_it_began_from_and_how_it_was_trained(card, tmp_path):
    assert "Chosen after" not in card
    assert "was trained with" not in card
    plan = {"optimizer": "adamw", "epochs": 2, "accumulation": 4, "pack_tokens": 1024, "seed": 7}
    settings = {"methods": {"adamw": {"learning_rate": 0.0005}}, "tune": plan}
    cards = {
        "pretrained": {"parent": "hash of the base", "weights": "hash of the pretrained"},
        **{name: {"parent": "hash of the pretrained", "weights": name, "settings": settings} for name in ("r0", "r1")},
    }
    models = MODELS | {"r1": results(1.6, passed=[True, True])}
    folder, _ = run_stage(tmp_path, models, pretraining=PRETRAINING, turn=Round(), cards=cards)
    told = (folder / "README.md").read_text(encoding="utf-8")
    assert "Chosen after 1 turn of the loop: round r0, the lowest validation loss of 2 rounds: r0 1.0, r1 2.0." in told
    assert "| r0 | pretrained | lora × adamw × cross_entropy |" in told
    assert (
        "r0 was trained with: learning rate 0.0005, epochs at most 2, packs of a step 4, tokens of a pack at most 1024, seed 7."
        in told
    )


def test_figures_that_are_no_numbers_are_not_in_the_results(tmp_path):
    from dataclasses import replace

    broken = [replace(row, value=float("nan")) for row in results(1.5)]
    folder, _ = run_stage(tmp_path, {"base": results(), "r0": broken})
    assert ModelCard((folder / "README.md").read_text()).data.eval_results is None
