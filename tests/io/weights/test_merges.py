"""Models of one base are merged into a plain model; another base and adapters of other layers are refused."""

import shutil
from dataclasses import replace

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tasks.core.weights.merging import DENSITIES, Merge
from tasks.core.weights.surgery import plain
from tasks.engine.training import store
from tasks.io.weights import checkpoints, merges, sparse_deltas
from tasks.io.weights.merges import Expert
from tests import tiny as small
from tests.methods import contract


def trained(folder, base, seed=0, card=True, **chosen):
    """The folder of a model that some steps have made of the base, with these parts: `adapters="lora"`, settings in a dict."""
    torch.manual_seed(seed)
    settings = {family: value for family, value in chosen.items() if not isinstance(value, str)}
    parts = contract.composition(
        **{family: value[0] if family in settings else value for family, value in chosen.items()}
    )
    for family, (name, params) in settings.items():
        parts = replace(parts, **{family.removesuffix("s"): contract.part(family, name, **params)})
    attached, optimizer = contract.composed(checkpoints.load(base)[0], parts)
    contract.steps(attached, optimizer, parts, count=2 + seed)
    store.save(attached, parts, checkpoints.load_tokenizer(base), folder)
    if card:
        checkpoints.write_card(folder, method=parts.names, parent=checkpoints.weights_digest(base))
    return folder


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """Two LoRAs, a CorDA, a model that was trained whole, and a file of the difference of one with a few entries."""
    made = tmp_path_factory.mktemp("experts")
    folders = {
        "lora": trained(made / "lora", tiny, adapters="lora"),
        "other": trained(made / "other", tiny, seed=1, adapters="lora"),
        "corda": trained(made / "corda", tiny, adapters="corda"),
        "whole": trained(made / "whole", tiny, adapters="none"),
    }
    few = trained(made / "few", tiny, selectors="neuroada")
    sparse_deltas.write(made / "few.safetensors", few, tiny)
    return folders | {"few": few, "delta": made / "few.safetensors"}


def weights(folder):
    """The weights of a model, read by transformers alone."""
    return {name: p.detach() for name, p in AutoModelForCausalLM.from_pretrained(folder).named_parameters()}


def tuned(path, base):
    """The weights of a tuned model with its adapter merged."""
    return {name: p.detach() for name, p in checkpoints.load(path, base)[0].named_parameters()}


def merged(tmp_path, base, experts, *merge):
    merges.write(tmp_path / "merged", base, experts, Merge(*merge))
    return weights(tmp_path / "merged")


@pytest.mark.parametrize("kind", ["lora", "corda", "whole"])
def test_one_expert_is_its_own_weights(tiny, tmp_path, folders, kind):
    expected = tuned(folders[kind], tiny)
    for name, weight in merged(tmp_path, tiny, [Expert(folders[kind])]).items():
        torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)
    assert sorted(file.name for file in (tmp_path / "merged").glob("*.safetensors")) == ["model.safetensors"]


def test_a_merged_model_has_the_files_by_which_its_base_reads_images(tiny, tmp_path, folders):
    base = shutil.copytree(tiny, tmp_path / "base")
    (base / "preprocessor_config.json").write_text('{"image_processor_type": "SiglipImageProcessor"}')
    merged(tmp_path, base, [Expert(folders["lora"])])
    assert "SiglipImageProcessor" in (tmp_path / "merged/preprocessor_config.json").read_text()


@pytest.mark.parametrize("method", DENSITIES)
def test_every_method_merges_the_changes_tensor_by_tensor(tiny, tmp_path, folders, method):
    merge, factors = Merge(method), [1.0, 0.5]
    found = merged(tmp_path, tiny, [Expert(folders["lora"]), Expert(folders["other"], 0.5)], method)
    base, one, other = weights(tiny), tuned(folders["lora"], tiny), tuned(folders["other"], tiny)
    changed = sorted(name for name in base if not torch.equal(one[name], base[name]))
    torch.manual_seed(0)
    for name in changed:
        expected = base[name] + merge.combine([one[name] - base[name], other[name] - base[name]], factors)
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-7)
    assert all(torch.equal(found[name], base[name]) for name in base if name not in changed)
    assert any(not torch.equal(found[name], base[name]) for name in changed)


def test_adapters_whole_models_and_differences_are_merged_together(tiny, tmp_path, folders):
    experts = [
        Expert(folders["lora"]),
        Expert(folders["corda"], 2.0),
        Expert(folders["whole"]),
        Expert(folders["delta"], -1.0),
    ]
    found, base = merged(tmp_path, tiny, experts, "task_arithmetic"), weights(tiny)
    sides = [
        (tuned(folders[kind], tiny), factor) for kind, factor in (("lora", 1), ("corda", 2), ("whole", 1), ("few", -1))
    ]
    for name, weight in found.items():
        expected = base[name] + sum(factor * (side[name] - base[name]) for side, factor in sides)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)


def test_the_same_merge_has_the_same_bytes_and_another_seed_others(tiny, tmp_path, folders):
    experts = [Expert(folders["lora"]), Expert(folders["other"])]
    for number, seed in enumerate((0, 0, 1)):
        merges.write(tmp_path / str(number), tiny, experts, Merge("dare_ties", 0.5, seed))
    files = [{file.name: file.read_bytes() for file in (tmp_path / str(number)).iterdir()} for number in range(3)]
    assert files[0] == files[1]
    assert files[0]["model.safetensors"] != files[2]["model.safetensors"]


def test_the_card_names_base_method_and_experts(tiny, tmp_path, folders):
    merged(tmp_path, tiny, [Expert(folders["lora"], 0.25), Expert(folders["delta"])], "ties")
    card = checkpoints.read_card(tmp_path / "merged")
    assert card["parent"] == checkpoints.weights_digest(tiny)
    recorded = card["merge"]
    assert (recorded["method"], recorded["density"], recorded["seed"]) == ("ties", 0.2, 0)
    assert [(expert["path"], expert["weight"]) for expert in recorded["experts"]] == [
        (str(folders["lora"]), 0.25),
        (str(folders["delta"]), 1.0),
    ]
    assert recorded["experts"][0]["digest"] == checkpoints.weights_digest(folders["lora"])


def test_an_expert_of_another_base_is_refused_by_hash(tiny, tmp_path, folders):
    other = shutil.copytree(tiny, tmp_path / "other")
    model = small.load(tiny)
    with torch.no_grad():
        model.model.norm.weight += 1
    model.save_pretrained(other)
    for kind, words in (
        ("lora", "was trained on weights"),
        ("whole", "was trained on weights"),
        ("delta", "is a difference to weights"),
    ):
        with pytest.raises(ValueError, match=rf"{folders[kind].name} {words} \w+, but .*other holds"):
            merged(tmp_path, other, [Expert(folders[kind])])
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_adapters_of_different_layers_are_refused_with_a_layer_and_the_way_round(tiny, tmp_path, folders):
    narrow = trained(tmp_path / "narrow", tiny, adapters=("lora", {"rank": 2, "targets": ["q_proj"]}))
    with pytest.raises(
        ValueError, match=r"adapt different layers \(.*lora alone has model\.layers\.\d\.\w+\.\w+\)\. Train them"
    ):
        merged(tmp_path, tiny, [Expert(folders["lora"]), Expert(narrow)])
    merges.write(tmp_path / "plain", tiny, [Expert(narrow)], Merge())  # as the message says
    assert merged(tmp_path, tiny, [Expert(folders["lora"]), Expert(tmp_path / "plain")])


def test_adapters_of_different_methods_on_the_same_layers_are_merged(tiny, tmp_path, folders):
    assert merged(tmp_path, tiny, [Expert(folders["lora"]), Expert(folders["corda"])])


def test_what_plain_weights_cannot_express_is_refused(tiny, tmp_path, folders):
    mola = trained(tmp_path / "mola", tiny, adapters="mola")
    with pytest.raises(
        ValueError, match=r"mola is not .* with other weights \(.*\), so plain weights have no place for its change"
    ):
        merged(tmp_path, tiny, [Expert(mola)])
    (tmp_path / "larger").mkdir()
    larger = small.fetch(tmp_path / "larger", {"from": "config", "layers": 3})["base"]
    with pytest.raises(ValueError, match=r"larger/base is not .* with other weights"):
        merged(tmp_path, tiny, [Expert(larger)])


def test_an_adapter_of_a_quantised_base_is_refused_by_that_base(tiny, tmp_path, folders):
    over = shutil.copytree(folders["lora"], tmp_path / "over")
    checkpoints.write_card(over, method={"base": "nf4"}, parent=checkpoints.weights_digest(tiny))
    with pytest.raises(ValueError, match=r"over was trained on base 'nf4' and .*Train with `base: none`"):
        merged(tmp_path, tiny, [Expert(folders["other"]), Expert(over)])


def test_weights_that_are_not_finite_are_not_written(tiny, tmp_path, folders):
    with pytest.raises(ValueError, match=r"weights in model\.\S+ that are not finite, so none is written"):
        merged(tmp_path, tiny, [Expert(folders["lora"], 1e39)], "task_arithmetic")
    assert not (tmp_path / "merged").exists()


def test_a_file_of_something_else_is_named_with_what_would_do(tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        ValueError, match=r"notes\.txt is not a sparse difference: .*Name the folder of a model, or a file"
    ):
        merged(tmp_path, tiny, [Expert(tmp_path / "notes.txt")])


def test_a_killed_merge_leaves_no_model(tiny, tmp_path, folders, monkeypatch):
    def killed(*_, **_facts):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_card", killed)
    with pytest.raises(KeyboardInterrupt):
        merged(tmp_path, tiny, [Expert(folders["lora"])])
    assert list(tmp_path.iterdir()) == []


PEFT = {
    "lora": peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "down_proj"], use_rslora=True),
    "dora": peft.LoraConfig(r=2, target_modules="all-linear", use_dora=True),
    "oft": peft.OFTConfig(oft_block_size=8, target_modules=["q_proj", "v_proj"]),
}


@pytest.fixture(params=PEFT)
def elsewhere(tiny, tmp_path, request):
    """The folder of an adapter that peft alone made, without a word of ours in it; and the model that it makes."""
    model = peft.get_peft_model(small.load(tiny), PEFT[request.param])
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "elsewhere")
    return tmp_path / "elsewhere", model


def test_an_adapter_made_elsewhere_is_merged_and_said_to_name_no_base(tiny, tmp_path, folders, elsewhere):
    path, model = elsewhere
    assert merges.write(tmp_path / "merged", tiny, [Expert(path)], Merge()) == [str(path)]
    found = contract.losses(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(found, contract.losses(plain(model)), rtol=1e-4, atol=1e-4)
    assert merges.write(tmp_path / "own", tiny, [Expert(folders["lora"])], Merge()) == []


def test_the_command_merges_by_weights_and_refuses_in_a_sentence(tiny, tmp_path, folders, capsys):
    from flows.commands.merge import merge

    sources = [str(folders["lora"]), f"{folders['other']}:3"]
    merge(sources, to=tmp_path / "merged", base=tiny)
    assert f"{tmp_path / 'merged'}: {tiny} with 2 merged by linear" in capsys.readouterr().out
    base, one, other = weights(tiny), tuned(folders["lora"], tiny), tuned(folders["other"], tiny)
    for name, weight in weights(tmp_path / "merged").items():
        torch.testing.assert_close(weight, 0.25 * one[name] + 0.75 * other[name], rtol=0, atol=1e-6)
        assert weight.shape == base[name].shape
    for given, message in (
        (["nowhere:2"], "nowhere is neither the folder of a model"),
        ([f"{folders['lora']}:much"], "'much' is no number"),
        ([f"{folders['lora']}:nan"], "'nan' is no number"),
    ):
        with pytest.raises(ValueError, match=message):
            merge(given, to=tmp_path / "new", base=tiny)
    with pytest.raises(ValueError, match="exists"):
        merge(sources, to=tmp_path / "merged", base=tiny)
