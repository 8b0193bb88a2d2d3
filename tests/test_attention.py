"""Attention, and the methods that read it, where the answer is known."""

import copy
import math

import pytest
import torch
from torch import nn

from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, Case, NotApplicable
from assay.benchmarks.promises import traces
from assay.benchmarks.registry import AssayError
from assay.benchmarks.transformer import (
    Attention,
    Block,
    Patches,
    Readout,
    Tokens,
    recorded,
    sinusoids,
    tokens_of,
)

torch.set_num_threads(1)
load_plugins()
METHOD_NAMES = ["attention_rollout", "attention_last_layer", "transformer_attribution"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def drawn(net):
    """The network in double precision with weights that a seed decides."""
    for i, parameter in enumerate(net.parameters()):
        parameter.data = 0.5 * draw(*parameter.shape, seed=i)
    return net.double().eval().requires_grad_(False)


def case_of(model, x, target=0):
    return Case(
        model=model,
        x=x,
        target=torch.full((len(x),), target),
        baseline=torch.zeros_like(x[0]),
        background=x[:1],
        groups=None,
        rng=generator(),
    )


def explain(name, case):
    return METHODS[name].function(case)


class ByHand(nn.Module):
    """Attention as it is set, whatever the keys and queries say; [heads, to, from]."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("set", weights)

    def forward(self, scores):
        return 0 * scores + self.set


def stochastic(heads, tokens, seed):
    return draw(heads, tokens, tokens, seed=seed).double().softmax(-1)


class Pixels(nn.Module):
    """A row [1, tokens] as tokens of width 2: the pixel, and 1."""

    def forward(self, x):
        return torch.stack([x[:, 0], torch.ones_like(x[:, 0])], 2)


def transformer(layers, tokens, class_token, outputs=1):
    """Attention without norms and perceptrons, one layer after the other, over `tokens` pixels."""
    net = drawn(
        nn.Sequential(
            Pixels(),
            Tokens((tokens,), 2, class_token=class_token),
            *(Attention(2, len(weights)) for weights in layers),
            Readout(class_token=class_token),
            nn.Linear(2, outputs),
        )
    )
    for layer, weights in zip((m for m in net if isinstance(m, Attention)), layers, strict=True):
        layer.weights = ByHand(weights)
    return net


def test_attention_is_that_of_torch():
    own, fused = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    own, fused = drawn(own), fused.double().eval()
    fused.in_proj_weight.data = torch.cat([own.query.weight, own.key.weight, own.value.weight])
    fused.in_proj_bias.data = torch.cat([own.query.bias, own.key.bias, own.value.bias])
    fused.out_proj.load_state_dict(own.out.state_dict())
    x = draw(4, 7, 12).double()
    with recorded(own) as found:
        result = own(x)
    wanted, weights = fused(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(result, wanted)
    torch.testing.assert_close(found[0], weights)


def test_heads_must_divide_the_width():
    with pytest.raises(AssayError, match="got 5 heads and 12"):
        Attention(12, 5)


def test_a_block_normalises_before_each_of_its_halves():
    block = drawn(Block(6, 2, ratio=3))
    x = draw(2, 5, 6).double()
    norm, attention, _ = block.attend
    middle = x + attention(norm(x))
    second, up, bend, down, _ = block.think
    assert up.out_features == 18
    torch.testing.assert_close(block(x), middle + down(bend(up(second(middle)))))


def test_dropout_is_off_in_eval_mode_and_on_in_training():
    block, x = Block(8, 2, dropout=0.5), draw(2, 5, 8)
    torch.manual_seed(0)
    assert not torch.equal(block(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


def test_sinusoids_follow_the_formula():
    codes = sinusoids((9,), 6)
    for place in range(9):
        angles = [place / 10000 ** (i / 3) for i in range(3)]
        wanted = [*map(math.sin, angles), *map(math.cos, angles)]
        torch.testing.assert_close(codes[place], torch.tensor(wanted))


def test_sinusoids_of_a_grid_hold_each_axis_in_a_part_of_the_width():
    codes = sinusoids((3, 4), 9).view(3, 4, 9)
    assert torch.equal(codes[:, :, :4], sinusoids((3,), 4)[:, None].expand(3, 4, 4))
    assert torch.equal(codes[:, :, 4:8], sinusoids((4,), 4).expand(3, 4, 4))
    assert (codes[:, :, 8] == 0).all()


def test_tokens_get_their_positions_and_a_class_token_first():
    x = draw(2, 6, 4)
    plain, led = Tokens((2, 3), 4, positions="sinusoids"), Tokens((6,), 4, class_token=True)
    assert torch.equal(plain(x), x + sinusoids((2, 3), 4))
    assert not list(plain.parameters())
    found = led(x)
    assert torch.equal(found[:, 1:], x + led.positions)
    assert torch.equal(found[:, 0], led.first[0].expand(2, -1))
    before = led.positions.clone()
    led.reset_parameters()
    assert not torch.equal(before, led.positions)


def test_readouts():
    x = draw(2, 6, 4)
    assert torch.equal(Readout()(x), x.mean(1))
    assert torch.equal(Readout(class_token=True)(x), x[:, 0])


def test_patches_are_squares_row_by_row():
    embed = drawn(Patches(3, 5, 2))
    x = draw(2, 3, 4, 6).double()
    found = embed(x)
    for i, (row, column) in enumerate((r, c) for r in (0, 2) for c in (0, 2, 4)):
        square = x[:, :, row : row + 2, column : column + 2].flatten(1)
        wanted = square @ embed.embed.weight.flatten(1).T + embed.embed.bias
        torch.testing.assert_close(found[:, i], wanted)


def test_what_tokens_have_is_spread_evenly_over_their_places():
    found = Tokens((2, 3), 4).spread(torch.arange(6.0)[None], torch.Size((3, 4, 6)))
    assert found.shape == (1, 3, 4, 6)
    for token in range(6):
        row, column = 2 * (token // 3), 2 * (token % 3)
        assert torch.allclose(found[0, :, row : row + 2, column : column + 2], torch.tensor(token / 12))


@pytest.mark.parametrize(("grid", "shape"), [((4,), (2, 9)), ((2, 3), (3, 5, 8)), ((5,), (1, 5))])
def test_nothing_is_lost_where_the_places_cannot_be_cut_evenly(grid, shape):
    values = draw(3, math.prod(grid)).abs()
    found = Tokens(grid, 4).spread(values, torch.Size(shape))
    assert found.shape == (3, *shape)
    torch.testing.assert_close(found.flatten(1).sum(1), values.sum(1))
    assert (found > 0).all()


@pytest.mark.parametrize(("grid", "shape"), [((4,), (2, 3)), ((4,), (3, 4, 4)), ((2, 2), (2, 9))])
def test_tokens_that_do_not_lie_in_the_features_are_refused(grid, shape):
    with pytest.raises(NotApplicable, match="do not lie in features"):
        Tokens(grid, 4).spread(torch.ones(1, math.prod(grid)), torch.Size(shape))


def picture_net(class_token=True, outputs=2):
    return drawn(
        nn.Sequential(
            Patches(3, 8, 2),
            Tokens((4, 4), 8, class_token=class_token),
            *(Block(8, 2), Block(8, 4)),
            Readout(class_token=class_token),
            nn.Linear(8, outputs),
        )
    )


def test_recording_changes_no_output_and_leaves_nothing_behind():
    net, x = picture_net(), draw(3, 3, 8, 8).double()
    case = case_of(net, x)
    plain, before = net(x), traces(case)
    with recorded(net) as found:
        assert torch.equal(net(x), plain)
        assert [w.shape for w in found] == [(3, 2, 17, 17), (3, 4, 17, 17)]
    for weights in found:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert traces(case) == before
    net(x)
    assert len(found) == 2
    copy.deepcopy(net)


def test_recording_ends_where_something_fails():
    net = picture_net()
    with pytest.raises(ZeroDivisionError), recorded(net):
        raise ZeroDivisionError
    assert not any(m._forward_hooks for m in net.modules())


def test_gradients_in_the_recorded_weights_are_those_of_finite_differences():
    net, x = picture_net(), draw(1, 3, 8, 8).double().requires_grad_()
    with recorded(net) as found:
        out = net(x)[:, 0].sum()
    slope = torch.autograd.grad(out, found)[1][0, 2, 0, 5]
    layer, step = net[3].attend[1], torch.zeros(1, 4, 17, 17).double()
    step[0, 2, 0, 5] = 1e-6
    layer.weights.register_forward_hook(lambda _, __, weights: weights + step)
    torch.testing.assert_close((net(x)[:, 0].sum() - out) / 1e-6, slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("class_token", [True, False])
def test_rollout_of_one_layer_and_one_head(class_token):
    """(A + I) / 2: half of the attention, and half of where it is read."""
    tokens = 4 + class_token
    weights = stochastic(1, tokens, seed=3)
    net = transformer([weights], 4, class_token)
    found = explain("attention_rollout", case_of(net, draw(2, 1, 4).double()))
    wanted = weights[0, 0, 1:] / 2 if class_token else (weights[0].mean(0) + 1 / 4) / 2
    torch.testing.assert_close(found, wanted.expand(2, 1, 4))


@pytest.mark.parametrize("class_token", [True, False])
def test_rollout_follows_every_path_through_the_layers(class_token):
    """The sum over all ways from a token to the readout, layer by layer staying or moving, one by one."""
    tokens = 3 + class_token
    layers = [stochastic(2, tokens, seed=s) for s in (1, 2, 3)]
    net = transformer(layers, 3, class_token)
    found = explain("attention_rollout", case_of(net, draw(1, 1, 3).double()))[0, 0]
    step = [(w.mean(0) + torch.eye(tokens)) / 2 for w in layers]
    starts = [0] if class_token else range(3)
    for place in range(3):
        total = sum(
            step[2][start, a] * step[1][a, b] * step[0][b, place + class_token]
            for start in starts
            for a in range(tokens)
            for b in range(tokens)
        )
        torch.testing.assert_close(found[place], total / len(starts))


def test_rollout_to_a_mean_of_tokens_adds_up_to_one():
    found = explain("attention_rollout", case_of(picture_net(class_token=False), draw(3, 3, 8, 8).double()))
    torch.testing.assert_close(found.flatten(1).sum(1), torch.ones(3).double())


def test_rollout_reads_the_weights_that_the_model_computes():
    """Keys that see the pixel alone, and a constant query: softmax of the pixels, worked out by hand."""
    net = transformer([stochastic(1, 4, seed=0)], 4, class_token=False)
    layer = net[2]
    layer.weights = nn.Softmax(dim=-1)
    net[1].positions.zero_()
    layer.query.weight.zero_()
    layer.query.bias.copy_(torch.tensor([math.sqrt(2), 0]))
    layer.key.weight.copy_(torch.eye(2))
    layer.key.bias.zero_()
    x = draw(3, 1, 4).double()
    case = case_of(net, x)
    torch.testing.assert_close(explain("attention_last_layer", case), x.softmax(-1))
    torch.testing.assert_close(explain("attention_rollout", case), (x.softmax(-1) + 1 / 4) / 2)


@pytest.mark.parametrize("class_token", [True, False])
def test_the_last_layer_is_the_last(class_token):
    layers = [stochastic(2, 4 + class_token, seed=s) for s in (1, 2)]
    net = transformer(layers, 4, class_token)
    found = explain("attention_last_layer", case_of(net, draw(2, 1, 4).double()))
    last = layers[1].mean(0)
    torch.testing.assert_close(found[0, 0], last[0, 1:] if class_token else last.mean(0))


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("class_token", [True, False])
def test_relevance_of_one_layer_and_one_head(class_token, target):
    """Attention times what attending there adds to the output: w . (W v + 0), where that is positive."""
    weights = stochastic(1, 4 + class_token, seed=5)
    net = transformer([weights], 4, class_token, outputs=2)
    x = draw(2, 1, 4).double()
    found = explain("transformer_attribution", case_of(net, x, target))
    attention, head = net[2], net[4]
    adds = attention.value(net[1](net[0](x))) @ attention.out.weight.T @ head.weight[target]
    share = 1 if class_token else 1 / 4
    raised = (weights * adds[:, None] * share).clamp_min(0)
    torch.testing.assert_close(found[:, 0], raised[:, 0, 1:] if class_token else raised.mean(1))


def test_relevance_of_layers_follows_every_path():
    """The sum over all choices of layers that move, by weighted attention, less the choice of none."""
    net, x = picture_net(), draw(1, 3, 8, 8).double()
    found = explain("transformer_attribution", case_of(net, x, target=1))
    with recorded(net) as layers:
        out = net(x.clone().requires_grad_())[0, 1]
    slopes = torch.autograd.grad(out, layers)
    first, second = ((w * s).clamp_min(0).mean(1)[0].detach() for w, s in zip(layers, slopes, strict=True))
    paths = first + second + second @ first
    wanted = tokens_of(net).spread(paths[None, 0, 1:], x.shape[1:])
    torch.testing.assert_close(found, wanted)


def test_relevance_depends_on_what_is_explained_and_attention_does_not():
    net, x = picture_net(), draw(2, 3, 8, 8).double()
    for name in METHOD_NAMES:
        maps = [explain(name, case_of(net, x, target)) for target in (0, 1)]
        assert torch.equal(*maps) == (name != "transformer_attribution")


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_patches_in_another_order_get_their_maps_in_that_order(name):
    net, x = picture_net(), draw(2, 3, 8, 8).double()
    net[1].positions.zero_()
    found, turned = (explain(name, case_of(net, some)) for some in (x, x.roll((2, 4), (2, 3))))
    torch.testing.assert_close(found.roll((2, 4), (2, 3)), turned)
    assert found.flatten(1).std(1).min() > 0


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_maps_are_even_within_a_patch_and_over_channels(name):
    found = explain(name, case_of(picture_net(), draw(2, 3, 8, 8).double()))
    corner = found[:, :1, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(found, corner.expand(-1, 3, -1, -1))
    assert (found >= 0).all()


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_blocks_of_rows_get_the_maps_of_all_together(name, monkeypatch):
    case = case_of(picture_net(), draw(5, 3, 8, 8).double())
    whole = explain(name, case)
    monkeypatch.setattr("assay.benchmarks.transformer.rows_at_once", lambda _: 2)
    torch.testing.assert_close(explain(name, case), whole)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_models_whose_tokens_have_no_places_are_refused(name):
    net = drawn(nn.Sequential(Patches(3, 8, 2), Block(8, 2), Readout(), nn.Linear(8, 2)))
    with pytest.raises(NotApplicable, match=r"transformer\.Tokens.*the model has 0"):
        explain(name, case_of(net, draw(2, 3, 8, 8).double()))
