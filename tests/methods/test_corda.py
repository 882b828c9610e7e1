"""CorDA trains components of a weight that a probe's inputs use least, or most.

Covariance, factors and layer are held against numbers of the authors' code (`data/corda.json`), the decomposition against the paper's
equations in float64, and the whole model against peft's `preprocess_corda`.
"""

import json
from functools import partial

import peft
import pytest
import torch
from peft.tuners.lora.corda import preprocess_corda
from torch import nn
from torch.nn import functional as F

from tasks.core.training import Probe, Start
from tasks.core.weights import surgery
from tasks.engine.forward import use_packed_attention
from tasks.engine.packing import Pack, collate
from tasks.engine.training import store
from tasks.io.weights import checkpoints, compressed, models
from tasks.methods.adapters.corda import method as corda
from tasks.methods.adapters.corda.config import CordaConfig
from tests import tiny as small
from tests.methods import contract
from tests.methods.official import frozen, same, wave

SMALL = {"rank": 4}
SHAPES = {"12x8": (12, 8), "6x10": (6, 10)}
MODES = ["kpm", "ipm"]


def trainable(model, params):
    """The sum over all adapted layers of r (in + out)."""
    return sum(params.rank * sum(layer.weight.shape) for layer in surgery.linears(model, params.targets).values())


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(tokens, width, seed=1):
    """Inputs that lie mostly in a few directions."""
    return (
        noise(tokens, width, seed=seed)
        @ torch.diag(2.0 ** -torch.arange(width, dtype=torch.float64))
        @ noise(width, width, seed=2)
    )


def decompose(weight, covariance, **config):
    return corda.decompose("q_proj", weight, covariance, CordaConfig(**config))


def product(factors):
    return factors.B_OR @ factors.A_RI


def watched(layer, inputs):
    """A probe of these inputs of one layer, each (T, I), in one packed row."""
    edges = torch.tensor([0, *(len(x) for x in inputs)]).cumsum(0)
    row = {"boundaries": edges, "x": torch.cat(inputs)[None]}
    look = lambda model, batch: model(batch["x"])  # noqa: E731
    return corda.covariances(layer, {"linear": layer}, Probe([row], look, look))["linear"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_covariance_is_the_official_one_times_256_over_the_sequences(shape):
    out, width = SHAPES[shape]
    layer = nn.Linear(width, out)
    covariance = watched(layer, [wave(7, width, phase=float(n), dtype=torch.float32) for n in range(3)])
    same(covariance * 3 / 256, frozen("corda")[shape]["covariance"], rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_factors_residual_and_layer_are_those_of_the_official_code(shape, mode):
    out, width = SHAPES[shape]
    expected = frozen("corda")[shape]
    base = nn.Linear(width, out, bias=shape == "6x10").double()
    base.weight.data = wave(out, width)
    if base.bias is not None:
        base.bias.data = wave(out, phase=1.0)
    config = CordaConfig(rank=2, mode=mode)
    components = corda.decompose("linear", base.weight, torch.tensor(expected["covariance"]), config)
    sizes = {"A_sizes": components.factors.A_RI.abs(), "B_sizes": components.factors.B_OR.abs()}
    same(sizes, expected[mode], rtol=1e-3, atol=1e-4)  # theirs is fp32, and a component's sign is free
    same(base.weight - product(components.factors), expected[mode]["residual"], rtol=1e-3, atol=1e-4)
    layer = corda.CordaLinear(base, config, components)
    same(layer(wave(4, width, phase=9.0)), expected[mode]["y"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_components_are_those_of_the_papers_equations(mode, scale):
    weight, x = noise(24, 16), correlated(200, 16)
    c = x.T @ x
    damped = c + 0.01 * c.diagonal().mean() * torch.eye(16, dtype=torch.float64)
    u, sigma, vt = torch.linalg.svd(weight @ damped, full_matrices=False)
    v_hat = vt @ torch.linalg.inv(damped)
    torch.testing.assert_close(u @ torch.diag(sigma) @ v_hat, weight)
    index = slice(-5, None) if mode == "kpm" else slice(5)
    factors = decompose(weight, c, rank=5, mode=mode, scale=scale).factors
    expected = u[:, index] @ torch.diag(sigma[index]) @ v_hat[index]
    torch.testing.assert_close(scale * product(factors), expected)
    torch.testing.assert_close(factors.B_OR.norm(dim=0), (sigma[index] / scale).sqrt())


def test_the_two_modes_share_no_direction():
    weight, x = noise(24, 16), correlated(200, 16)
    last, first = (decompose(weight, x.T @ x, rank=8, mode=mode).factors for mode in MODES)
    torch.testing.assert_close(product(last) + product(first), weight)
    torch.testing.assert_close(last.B_OR.T @ first.B_OR, torch.zeros(8, 8, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_a_larger_covariance_moves_weight_from_a_to_b_and_leaves_their_product(mode):
    weight, x = noise(24, 16), correlated(200, 16)
    one, other = (decompose(weight, k * (x.T @ x), rank=4, mode=mode).factors for k in (1.0, 37.0))
    torch.testing.assert_close(product(other), product(one))
    torch.testing.assert_close(other.B_OR.norm(), 37**0.5 * one.B_OR.norm())
    torch.testing.assert_close(other.A_RI.norm(), one.A_RI.norm() / 37**0.5)


@pytest.mark.parametrize("k", [1, 2, 4, 8, 12])
def test_outputs_lose_less_without_the_smallest_of_wc_than_of_w(k):
    weight, x = noise(24, 16), correlated(200, 16)

    def lost(covariance):
        return (x @ product(decompose(weight, covariance, rank=k).factors).T).norm()

    assert lost(x.T @ x) < lost(None)


@torch.no_grad()
def test_sequences_of_a_packed_row_are_looked_at_one_by_one(tiny):
    sequences = small.sequences(4, seed=3)
    model = small.load(tiny).eval()
    layers = surgery.linears(model, "all-linear")
    expected = {name: torch.zeros(layer.in_features, layer.in_features) for name, layer in layers.items()}

    def note(name, layer, inputs):
        (x,) = inputs[0] / inputs[0].max().abs()
        expected[name] += x.T @ x / len(sequences)

    handles = [layer.register_forward_pre_hook(partial(note, name)) for name, layer in layers.items()]
    for sequence in sequences:
        model(input_ids=torch.tensor([sequence.ids]))
    for handle in handles:
        handle.remove()
    use_packed_attention(model)
    rows = [collate([Pack(tuple(part))]) for part in (sequences[:3], sequences[3:])]
    found = corda.covariances(model, layers, contract.looking(rows))
    assert found.keys() == expected.keys()
    for name, covariance in found.items():
        torch.testing.assert_close(covariance, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_updates_start_as_those_of_peft(tiny, mode):
    sequences = small.sequences(12, seed=3, longest=40)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=4,
        target_modules=["q_proj", "o_proj"],
        init_lora_weights="corda",
        corda_config=peft.tuners.lora.config.CordaConfig(corda_method=mode),
        task_type=peft.TaskType.CAUSAL_LM,
    )
    theirs = small.load(tiny).eval()

    @torch.no_grad()
    def look():
        for sequence in sequences:
            theirs(input_ids=torch.tensor([sequence.ids]))

    preprocess_corda(theirs, config, run_model=look)
    theirs = peft.get_peft_model(theirs, config).get_base_model()
    ours = small.load(tiny)
    use_packed_attention(ours)
    start = Start(contract.looking([collate([Pack(tuple(sequences))])]))
    corda.attach(ours, CordaConfig(rank=4, mode=mode, targets=("q_proj", "o_proj")), start)
    for name, layer in corda.adapted(ours).items():
        their = theirs.get_submodule(name)
        their_product = their.lora_B["default"].weight @ their.lora_A["default"].weight
        torch.testing.assert_close(layer.B_OR @ layer.A_RI, their_product, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("dtype", contract.DTYPES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_fresh_model_is_the_base_to_the_bit_with_any_scale(tiny, mode, dtype):
    expected = contract.losses(contract.model("qwen2", tiny, dtype))
    method = contract.part("adapters", "corda", rank=4, mode=mode, scale=3.7)
    assert torch.equal(contract.losses(contract.attached(method, contract.model("qwen2", tiny, dtype))), expected)


def test_a_moved_layer_computes_the_residual_and_the_trained_product():
    base, x = nn.Linear(16, 24).double(), noise(5, 16, seed=4)
    config = CordaConfig(rank=3, mode="ipm", scale=2.0)
    weight = base.weight.detach().clone()
    layer = corda.CordaLinear(base, config, corda.decompose("q_proj", weight, None, config))
    first = layer.B0_OR @ layer.A0_RI
    with torch.no_grad():
        layer.A_RI += noise(3, 16, seed=5)
        layer.B_OR += noise(24, 3, seed=6)
    residual = weight - 2.0 * first
    expected = F.linear(x, residual, base.bias) + 2.0 * F.linear(F.linear(x, layer.A_RI), layer.B_OR)
    torch.testing.assert_close(layer(x), expected)
    lora = layer.change()
    assert lora.A_RI.shape == (6, 16)
    torch.testing.assert_close(F.linear(x, weight + product(lora).double(), base.bias), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.merge()(x), expected)


def test_a_lora_of_a_layer_smaller_than_it_has_directions_of_zero():
    base = nn.Linear(5, 7).double()
    config = CordaConfig(rank=4)
    layer = corda.CordaLinear(base, config, corda.decompose("q_proj", base.weight, None, config))
    assert product(layer.change()).abs().max() < 1e-7, "a fresh change is none"
    with torch.no_grad():
        layer.B_OR += noise(7, 4)
    lora = layer.change()
    assert (lora.A_RI.shape, lora.B_OR.shape) == ((8, 5), (7, 8))
    change = layer.B_OR @ layer.A_RI - layer.B0_OR @ layer.A0_RI
    torch.testing.assert_close(product(lora).double(), change.detach(), rtol=1e-5, atol=1e-5)


def trained(base, parts=None):
    """A trained adapter on the model in folder `base`, and its parts."""
    parts = parts or contract.composition(adapters="corda")
    attached, optimizer = contract.composed(checkpoints.load(base)[0], parts)
    contract.steps(attached, optimizer, parts, count=3)
    return attached, parts


def test_the_lora_beside_it_has_twice_the_rank_and_compressors_read_it(tiny, tmp_path):
    attached, parts = trained(tiny)
    store.save(attached, parts, None, tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / checkpoints.PEFT_ADAPTER).read_text())
    assert (config["r"], config["lora_alpha"]) == (2 * SMALL["rank"], 2 * SMALL["rank"])
    assert config["target_modules"] == sorted(config["target_modules"])
    checkpoints.write_card(tmp_path / "saved", method=parts.names, parent=checkpoints.weights_digest(tiny))

    compressor = contract.part("compressors", "compeft", densities=(0.5,), alphas=(1.0,))
    delta = compressed.read_delta(tmp_path / "saved", tiny)
    assert {key.split(".")[-2] for key in delta} == {"lora_A", "lora_B"}
    folder = tmp_path / "compressed"
    folder.mkdir()
    compressed.copy_facts(tmp_path / "saved", folder)
    compressed.write_note(folder, "compeft", compressor.config.model_dump(mode="json"))
    compressed.write_delta(folder, compressor.method.encode(compressor.method.quantise(delta, compressor.config)))
    checkpoints.write_card(folder, parent=checkpoints.weights_digest(tiny))
    loaded, _ = models.load(folder, tiny)
    base, near = contract.losses(small.load(tiny)), contract.losses(loaded)
    assert 0 < (near - base).norm() < 10 * (contract.losses(attached.model) - base).norm()


def test_what_is_held_is_saved_and_the_loaded_model_needs_no_probe(tiny, tmp_path):
    attached, parts = trained(tiny)
    store.save(attached, parts, None, tmp_path / "saved")
    names = {key.rpartition(".")[2] for key in checkpoints.read_adapter(tmp_path / "saved")}
    assert names == {"A_RI", "B_OR", "A0_RI", "B0_OR"}
    checkpoints.write_card(tmp_path / "saved", method=parts.names, parent=checkpoints.weights_digest(tiny))
    loaded, _ = checkpoints.load(tmp_path / "saved", tiny)
    torch.testing.assert_close(contract.losses(loaded), contract.losses(attached.model), rtol=1e-4, atol=1e-5)


def test_it_says_how_much_of_the_covariance_the_damping_outweighs(tiny):
    def shares(rows):
        model = small.load(tiny)
        use_packed_attention(model)
        attached = corda.attach(model, CordaConfig(**SMALL, targets=("q_proj",)), Start(contract.looking(rows)))
        return list(corda.facts(attached)["damped"].values())

    long = [collate([Pack(tuple(small.sequences(40, seed=seed)))]) for seed in (1, 2)]
    short = [collate([Pack(tuple(small.sequences(1, seed=1)))])]
    assert all(0 <= few < many <= 1 for few, many in zip(shares(long), shares(short), strict=True))


def test_the_control_orders_by_the_weight_alone_and_needs_no_probe():
    weight = noise(24, 16)
    u, sigma, vt = torch.linalg.svd(weight, full_matrices=False)
    smallest = u[:, -3:] @ torch.diag(sigma[-3:]) @ vt[-3:]
    torch.testing.assert_close(product(decompose(weight, None, rank=3).factors), smallest)
    corda.attach(small.qwen2(), CordaConfig(**SMALL, covariance="identity"), Start())


def test_a_rank_above_a_layer_is_refused(tiny):
    with pytest.raises(ValueError, match=r"rank 33 is above model\.layers\."):
        corda.attach(small.load(tiny), CordaConfig(rank=33), Start())


@pytest.mark.parametrize(("tokens", "said"), [((), "is empty"), ((7,), "is one token"), ((7, 7, 7), "is one token")])
def test_a_probe_that_cannot_order_components_is_refused(tiny, tokens, said):
    rows = [{"input_ids": torch.tensor([tokens]), "boundaries": torch.tensor([0, len(tokens)])}] if tokens else []
    with pytest.raises(ValueError, match=rf"the probe {said}\. Raise probe\.tokens .*covariance: identity"):
        corda.attach(small.load(tiny), CordaConfig(**SMALL), Start(contract.looking(rows)))


def test_inputs_that_are_zero_are_refused_by_name():
    layer = nn.Linear(8, 12)
    covariance = watched(layer, [torch.zeros(3, 8)])
    with pytest.raises(ValueError, match=r"the inputs of q_proj on the probe are zero or not finite"):
        decompose(layer.weight, covariance, rank=2)


def test_components_that_are_zero_are_refused_by_name():
    weight = noise(12, 8)
    weight[:, 3] = 0
    weight[:, 5] = weight[:, 1]
    with pytest.raises(ValueError, match=r"mode kpm with rank 3 would train 2 components of q_proj that are zero"):
        decompose(weight, None, rank=3)
    assert decompose(weight, None, rank=6, mode="ipm").factors.A_RI.isfinite().all()
