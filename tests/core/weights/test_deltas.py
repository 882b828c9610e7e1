"""A delta moves its numbers of the weight as full training would, and nothing else."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tasks.core.weights import deltas

I, O = 12, 10  # noqa: E741 - the letters of the house
INDEX = {
    "columns": torch.tensor([1, 4, 5]),
    "rows": torch.tensor([0, 7]),
    "entries": torch.tensor([3, 17, 18, 60, O * I - 1]),
}
FORMS = list(INDEX)


class Net(nn.Module):
    """A linear layer between two others, so that it passes a gradient on."""

    def __init__(self, *, bias=True, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.below, self.here, self.above = nn.Linear(6, I), nn.Linear(I, O, bias=bias), nn.Linear(O, 3)
        self.to(dtype)

    def forward(self, x):
        return self.above(F.gelu(self.here(F.gelu(self.below(x)))))


def mask(form):
    """Return 1.0 for the entries of the weight that train, 0.0 for others."""
    ones = torch.zeros(O, I)
    if form == "columns":
        ones[:, INDEX[form]] = 1.0
    elif form == "rows":
        ones[INDEX[form]] = 1.0
    else:
        for entry in INDEX[form].tolist():
            ones[entry // I, entry % I] = 1.0
    return ones


def part(form, weight):
    """Return the trained part of a weight, as a delta holds it."""
    if form == "entries":
        return torch.stack([weight[entry // I, entry % I] for entry in INDEX[form].tolist()])
    return weight[:, INDEX[form]] if form == "columns" else weight[INDEX[form]]


def attached(form, **config):
    net = Net(**config)
    return net, deltas.put(net, "here", form, INDEX[form])


def batches(count, dtype=torch.float32):
    torch.manual_seed(1)
    return [(torch.randn(2, 5, 6, dtype=dtype), torch.randn(2, 5, 3, dtype=dtype)) for _ in range(count)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_fresh_delta_changes_no_bit(form, dtype):
    (x, _), *_ = batches(1, dtype)
    net, layer = attached(form, dtype=dtype)
    assert torch.equal(net(x), Net(dtype=dtype)(x))
    assert layer.delta.dtype is torch.float32, "a small step would be lost in bf16"
    assert {n for n, p in net.here.named_parameters() if p.requires_grad} == {"delta"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bias", [True, False])
def test_twenty_steps_are_those_of_full_training_under_a_mask(form, bias):
    full, (sparse, layer) = Net(bias=bias), attached(form, bias=bias)
    full.requires_grad_(False).here.weight.requires_grad_(True).register_hook(lambda grad: grad * mask(form))
    sparse.requires_grad_(False)
    layer.delta.requires_grad_(True)
    ours = torch.optim.AdamW([layer.delta], lr=1e-2, weight_decay=0)
    theirs = torch.optim.AdamW([full.here.weight], lr=1e-2, weight_decay=0)
    start = full.here.weight.detach().clone()
    for x, y in batches(20):
        for net, optimizer in ((sparse, ours), (full, theirs)):
            optimizer.zero_grad()
            F.mse_loss(net(x), y).backward()
            optimizer.step()
        change = full.here.weight.detach() - start
        torch.testing.assert_close(layer.delta.detach(), part(form, change), rtol=0, atol=1e-5)
    assert torch.equal(change != 0, mask(form) == 1), "all of it has moved"
    deltas.merge(sparse)
    torch.testing.assert_close(sparse.here.weight, full.here.weight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_everything_is_that_of_the_dense_layer(form):
    """In double precision, where a wrong formula cannot hide."""
    net, layer = attached(form, dtype=torch.float64)
    dense = Net(dtype=torch.float64)
    with torch.no_grad():
        dense.here.weight += mask(form) * torch.randn(O, I)
        layer.delta.copy_(part(form, dense.here.weight - layer.weight))
    (x, y), *_ = batches(1, torch.float64)
    for each in (net, dense):
        F.mse_loss(each(x), y).backward()
    torch.testing.assert_close(layer.delta.grad, part(form, dense.here.weight.grad))
    torch.testing.assert_close(net.below.weight.grad, dense.below.weight.grad)
    assert net.here.weight.grad is None
    assert net.here.bias.grad is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_merging_writes_the_delta_and_leaves_a_plain_layer(form, dtype):
    net, layer = attached(form, dtype=dtype)
    nn.init.normal_(layer.delta)
    before, bias, (x, _) = layer.weight.clone(), layer.bias.clone(), batches(1, dtype)[0]
    expected, change = net(x), torch.zeros(O, I)
    change[mask(form) == 1] = layer.delta.detach().flatten()  # both read the weight row by row
    deltas.merge(net)
    assert type(net.here) is nn.Linear
    assert net.state_dict().keys() == Net().state_dict().keys()
    assert torch.equal(net.here.weight, (before.float() + change).to(dtype)), "rounded once"
    assert torch.equal(net.here.bias, bias)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-6 if dtype is torch.float32 else 0.05)


@pytest.mark.parametrize("form", FORMS)
def test_autocast_trains_near_full_precision(form):
    (x, y), *_ = batches(1)
    grads = []
    for enabled in (False, True):
        net, layer = attached(form)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = F.mse_loss(net(x).float(), y)
        loss.backward()
        assert layer.delta.grad.dtype is torch.float32
        grads.append(layer.delta.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=0.1, atol=0.02)
    assert not torch.equal(*grads)


@pytest.mark.parametrize("form", FORMS)
def test_an_index_and_a_delta_are_saved_and_loaded(form):
    net, layer = attached(form)
    nn.init.normal_(layer.delta)
    other = Net()
    elsewhere = {"columns": [0, 2, 3], "rows": [1, 2], "entries": [0, 1, 2, 4, 5]}[form]
    deltas.put(other, "here", form, torch.tensor(elsewhere))
    other.load_state_dict(net.state_dict())
    (x, _), *_ = batches(1)
    assert torch.equal(other(x), net(x))


def kept(layer, x):
    """Bytes of activations that the backward pass of a layer keeps: everything but its own weights."""
    own = {tensor.data_ptr() for tensor in [*layer.parameters(), *layer.buffers()]}
    sizes = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.update({t.data_ptr(): t.nbytes} if t.data_ptr() not in own else {}) or t, lambda t: t
    ):
        layer(x)
    return sum(sizes.values())


def test_columns_keep_their_share_of_the_activations():
    layer, x = nn.Linear(64, 16), torch.randn(2, 50, 64, requires_grad=True)
    plain = kept(layer, x)
    assert plain == x.nbytes
    assert kept(deltas.DeltaLinear(layer, "columns", torch.arange(8)), x) == plain * 8 / 64


def test_small_steps_add_up_in_bf16():
    """A thousand steps of 1e-4 at a weight of 1, whose neighbour in bf16 is 1.0078."""
    _, layer = attached("entries", dtype=torch.bfloat16)
    layer.weight.fill_(1.0)
    for _ in range(1000):
        with torch.no_grad():
            layer.delta += 1e-4
    assert torch.allclose(layer.merged().weight.flatten()[INDEX["entries"]].float(), torch.tensor(1.1), atol=4e-3)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.0])
def test_a_scale_slows_its_row_under_adam_by_that_share(share):
    """Adam forgets the size of a gradient, so that a masked gradient would move the row as far as any other."""
    scale = torch.tensor([share, 1.0])
    net, layer = Net(), None
    layer = deltas.put(net, "here", "rows", INDEX["rows"], scale)
    plain, other = attached("rows")
    moved = {}
    for name, (model, delta) in {"scaled": (net, layer), "plain": (plain, other)}.items():
        optimizer = torch.optim.AdamW([delta.delta], lr=1e-3, weight_decay=0)
        (x, y), *_ = batches(1)
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        before = delta.weight.clone()
        deltas.merge(model)
        moved[name] = (model.here.weight - before)[INDEX["rows"]]
    torch.testing.assert_close(moved["scaled"], scale[:, None] * moved["plain"], rtol=1e-3, atol=1e-6)
    assert (moved["plain"] != 0).all()


def test_a_scaled_delta_merges_into_what_it_computes():
    net = Net()
    layer = deltas.put(net, "here", "rows", INDEX["rows"], torch.tensor([0.3, 0.9]))
    nn.init.normal_(layer.delta)
    (x, _), *_ = batches(1)
    expected = net(x)
    deltas.merge(net)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-6)


def test_a_scale_of_entries_is_refused():
    with pytest.raises(ValueError, match="A scale is of rows, and this delta is one of entries"):
        deltas.put(Net(), "here", "entries", INDEX["entries"], torch.ones(5))


def test_a_watcher_sees_the_gradient_of_the_whole_weight_and_keeps_nothing():
    net, layer = attached("entries")
    dense, seen = Net(), []
    layer.watcher = lambda grad: seen.append(grad.clone())
    (x, y), *_ = batches(1)
    for model in (net, dense):
        F.mse_loss(model(x), y).backward()
    (gradient,) = seen
    torch.testing.assert_close(gradient, dense.here.weight.grad)
    assert torch.equal(layer.delta.grad, gradient.flatten()[INDEX["entries"]])
    layer.watcher = None
    F.mse_loss(net(x), y).backward()
    assert len(seen) == 1


def test_moved_deltas_start_as_zero_elsewhere_and_others_stay():
    _, layer = attached("entries")
    nn.init.normal_(layer.delta)
    before = layer.delta.detach().clone()
    layer.move(torch.tensor([1, 3]), torch.tensor([40, 2]))
    assert layer.index.tolist() == [3, 40, 18, 2, O * I - 1]
    assert layer.delta.tolist() == [before[0], 0.0, before[2], 0.0, before[4]]
    expected = layer.weight.flatten().clone()
    expected[torch.tensor([3, 18, O * I - 1])] += before[torch.tensor([0, 2, 4])]
    assert torch.equal(layer.merged().weight.flatten(), expected)


def test_what_is_kept_are_the_buffers_of_all_deltas():
    net = Net()
    deltas.put(net, "here", "rows", INDEX["rows"], torch.tensor([0.5, 1.0]))
    layer = deltas.put(net, "above", "entries", torch.tensor([1, 2]))
    layer.register_buffer("total", torch.zeros(2))
    kept = deltas.kept(net)
    assert kept.keys() == {"here.index", "here.scale", "above.index", "above.total"}
    assert kept["above.total"] is layer.total
