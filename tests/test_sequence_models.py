"""Networks of sound: what they compute, that rows do not meet, and where they begin."""

import math
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from assay import methods, models
from assay.benchmarks.linear_task import linear_problem, pattern_problem
from assay.benchmarks.plugin import METHODS, MODELS, Case, NotApplicable
from assay.benchmarks.randomness import seeded
from assay.benchmarks.sequence import SOUND, Recurrent, fitted, front_end, read_out
from assay.benchmarks.transformer import Tokens

torch.set_num_threads(1)
MODELS.discover(models)
METHODS.discover(methods)
NAMES = ("rnn", "lstm", "tcn", "transformer_1d")
SMALL = {"hidden": 8, "layers": 2, "epochs": 1}


def sound(shape=(2, 512), classes=3, rows=8):
    """Few rows, whose classes are drawn."""
    given = pattern_problem(shape, 2)
    label = torch.arange(len(given.y)) % classes
    return replace(given, y=label, n_train=rows, n_validation=4)


def trained(name, problem, seed=0, **given):
    """After a few steps."""
    rng, function = torch.Generator().manual_seed(seed), MODELS[name].function
    with seeded(rng), pytest.MonkeyPatch.context() as patch:
        module = sys.modules[f"assay.models.{name}"]
        patch.setattr(module, "SOUND", replace(SOUND, least_steps=10))
        if name == "tcn":
            patch.setattr(module, "STEPS", 10)
        return function(problem, rng, **(SMALL | given))


@pytest.fixture(scope="module", params=NAMES)
def net(request):
    return trained(request.param, sound())


def clips(n=6, shape=(2, 512), seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def randomised(layer):
    """Other weights than zeros and ones, in batch norms too, and in eval mode."""
    for i, part in enumerate(layer.state_dict().values()):
        if part.is_floating_point():
            part.copy_(torch.rand(part.shape, generator=torch.Generator().manual_seed(i)) * 0.4 + 0.1)
    return layer.eval().requires_grad_(False)


# ---- what every one owes --------------------------------------------------------------------------------


def test_a_row_has_one_output_alone_among_others_and_after_others(net):
    x = clips()
    whole = net(x)
    assert whole.shape == (6, 3)
    assert net(x[:1]).shape == (1, 3)
    for some in ([2], [4, 1], [5, 4, 3, 2, 1, 0]):
        assert torch.allclose(net(x[some]), whole[some], atol=1e-5)
    assert torch.equal(net(x), whole)  # no state is left by what went through before
    changed = x.clone()
    changed[0] = 100 * clips(1, seed=1)[0]
    assert torch.allclose(net(changed)[1:], whole[1:], atol=1e-5)
    assert not torch.allclose(net(changed)[0], whole[0], atol=1e-3)


def test_a_gradient_reaches_every_channel_of_its_own_row_alone(net):
    x = clips().requires_grad_()
    slope = torch.autograd.grad(net(x)[2].square().sum(), x)[0]
    assert slope[2].abs().amax(1).all()
    assert not slope[[0, 1, 3, 4, 5]].any()
    assert not any(p.requires_grad for p in net.parameters())
    assert not any(m.training for m in net.modules())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_sound_is_refused(name):
    for problem, shape in ((linear_problem(), r"\(5,\)"), (pattern_problem((3, 16, 16)), r"\(3, 16, 16\)")):
        with pytest.raises(NotApplicable, match=rf"takes sound, \[channels, time\], .* {shape}"):
            trained(name, problem)


@pytest.mark.parametrize("name", NAMES)
def test_any_length_serves_and_a_regression_has_one_output(name):
    for shape in ((1, 40), (3, 83), (2, 200)):  # shorter than the kernel, one step, two pools
        given = sound(shape, 2)
        assert trained(name, given)(given.x[:2]).shape == (2, 2)
    regression = replace(pattern_problem((2, 200)), n_train=8, n_validation=4)
    assert trained(name, regression)(regression.x[:3]).shape == (3, 1)


@pytest.mark.parametrize("name", ["tcn", "transformer_1d"])
def test_hooks_see_every_layer_once(name):
    seen, built = [], trained(name, sound())
    leaves = [m for m in built.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(lambda layer, *_: seen.append(id(layer))) for leaf in leaves]
    built(clips(2))
    for hook in hooks:
        hook.remove()
    assert sorted(seen) == sorted(map(id, leaves))
    assert "layers" in MODELS[name].facts["has"]


def test_a_model_hangs_on_its_seed(net):
    again, other = (trained("tcn", sound(), seed) for seed in (0, 1))
    assert torch.equal(trained("tcn", sound())(clips()), again(clips()))
    assert not torch.allclose(again(clips()), other(clips()), atol=1e-3)


# ---- the parts ------------------------------------------------------------------------------------------


def test_the_front_end_is_a_convolution_norm_relu_and_the_largest_of_four():
    torch.manual_seed(0)
    front, steps = front_end(sound((10, 3200)), 6, 80, 16, 0.5)
    randomised(front)
    x = clips(2, (10, 3200))
    assert steps == 49
    assert front(x).shape == (2, 6, 49)
    conv, norm = front[0], front[1]
    windows = x.unfold(2, 80, 16)  # [n, channels, places, kernel]
    seen = torch.einsum("ncpk,hck->nhp", windows, conv.weight) + conv.bias[:, None]
    at = norm.running_mean[:, None], (norm.running_var + norm.eps).sqrt()[:, None]
    scaled = ((seen - at[0]) / at[1] * norm.weight[:, None] + norm.bias[:, None]).clamp_min(0)
    want = scaled[..., :196].unflatten(2, (49, 4)).amax(3)
    assert torch.allclose(front(x), want, rtol=1e-4, atol=1e-4)


def test_filters_begin_as_tones_that_cover_the_spectrum_evenly():
    torch.manual_seed(0)
    front, _ = front_end(sound((10, 1600)), 20, 80, 16, 0.5)
    heard = torch.fft.rfft(front[0].weight, n=800).abs()  # 400 bins up to half the sampling rate
    assert ((heard.argmax(2) - (torch.arange(20)[:, None] + 0.5) * 20).abs() <= 10).all()
    assert heard.argmax(2)[1:-1].float().std(1).max() < 2  # one tone in all channels
    phase = torch.fft.rfft(front[0].weight, n=800)[:, :, 210].angle()[10]
    assert phase.std() > 1


def test_a_recurrent_network_begins_with_orthogonal_steps_and_remembering():
    torch.manual_seed(0)
    net = nn.LSTM(4, 3, 2, batch_first=True)
    Recurrent(net)
    for gate in net.weight_hh_l1.split(3):
        assert torch.allclose(gate @ gate.T, torch.eye(3), atol=1e-6)
    assert net.weight_ih_l0.abs().max() <= (6 / 7) ** 0.5
    assert (net.bias_ih_l0 + net.bias_hh_l0).tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_in_training_alone_channels_are_moved_and_nothing_is_lost():
    net, seen = nn.Sequential(nn.Flatten(), nn.Linear(800, 2)), []
    net.register_forward_hook(lambda layer, given, _: seen.append((layer.training, given[0])))
    problem = replace(sound((4, 200), 2), n_train=1, n_validation=1)
    torch.manual_seed(0)
    fitted(net, problem, torch.Generator().manual_seed(0), SOUND, 0.1)
    assert all(torch.equal(given, problem.x[1:2]) for training, given in seen if not training)
    moved, steps = [given[0] for training, given in seen if training], set()
    for row in moved:
        for channel, was in zip(row, problem.x[0], strict=True):
            found = [by for by in range(-20, 21) if torch.equal(channel, was.roll(by))]
            assert len(found) == 1
            steps.add(found[0])
    assert len(steps) > 15  # of 41


def test_the_read_out_is_linear_in_the_largest_over_time():
    torch.manual_seed(0)
    head, x = read_out(5, 7, 3), clips(4, (5, 7))
    assert torch.allclose(head(x), x.amax(2) @ head[2].weight.T + head[2].bias, atol=1e-6)


def test_a_recurrent_network_begins_from_zeros():
    net = nn.RNN(4, 3, 2, batch_first=True)
    layer, x = randomised(Recurrent(net)), clips(5, (6, 4))
    w = {name: value.detach() for name, value in net.named_parameters()}
    sequence = x
    for i in range(2):
        state, states = torch.zeros(5, 3), []
        for t in range(6):
            into = sequence[:, t] @ w[f"weight_ih_l{i}"].T + w[f"bias_ih_l{i}"]
            state = torch.tanh(into + state @ w[f"weight_hh_l{i}"].T + w[f"bias_hh_l{i}"])
            states.append(state)
        sequence = torch.stack(states, 1)
    assert torch.allclose(layer(x), sequence, atol=1e-6)


def test_long_short_term_memory_begins_from_zeros():
    net = nn.LSTM(4, 3, 1, batch_first=True)
    layer, x = randomised(Recurrent(net)), clips(5, (6, 4))
    w = {name: value.detach() for name, value in net.named_parameters()}
    state, cell, states = torch.zeros(5, 3), torch.zeros(5, 3), []
    for t in range(6):
        into = x[:, t] @ w["weight_ih_l0"].T + w["bias_ih_l0"] + w["bias_hh_l0"]
        enter, forget, new, leave = (into + state @ w["weight_hh_l0"].T).chunk(4, 1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        state = leave.sigmoid() * cell.tanh()
        states.append(state)
    for _ in range(2):
        assert torch.allclose(layer(x), torch.stack(states, 1), atol=1e-6)


@pytest.mark.parametrize(("name", "part"), [("rnn", Recurrent), ("lstm", Recurrent)])
def test_a_model_reads_the_sequence_along_its_time(name, part):
    """A state depends on earlier steps and on no later one, and steps are the middle axis."""
    built = trained(name, sound())
    (states,) = (m for m in built.modules() if isinstance(m, part))
    _is_causal(states, clips(2, (7, 8)), time=1)
    assert states.net.batch_first


def test_blocks_of_dilated_convolutions_see_the_past_alone_and_as_far_as_they_should():
    built = trained("tcn", sound((2, 1200)), layers=3)
    blocks = built[1:4]
    for i, block in enumerate(blocks):
        randomised(block)
        reach = _is_causal(block, clips(2, (8, 30)).abs(), time=2)
        assert reach == 2 * 2 * 2**i  # two convolutions, each 2 taps back by 2^i
    x = clips(2, (8, 18)).abs()
    want = (x + blocks[0].change(x)).clamp_min(0)
    assert torch.equal(blocks[0](x), want)


def _is_causal(layer, x, time):
    """How many steps back a step depends on others; fails if it does on later ones."""
    before, steps = layer(x), x.shape[time]
    furthest = 0
    for step in range(steps):
        changed = x.clone()
        changed.select(time, step).add_(1.0)
        differs = (layer(changed) - before).abs().amax([i for i in range(3) if i != time]) > 1e-6
        assert not differs[:step].any()
        assert differs[step]
        furthest = max(furthest, int(differs.nonzero().max()) - step)
    assert furthest > 0
    return furthest


def test_the_transformer_knows_the_places_of_its_steps_by_sinusoids():
    built = trained("transformer_1d", sound(), hidden=12)
    (places,) = (m for m in built.modules() if isinstance(m, Tokens))
    want = torch.tensor(
        [
            [f(step / 10000 ** (2 * i / 12)) for f in (math.sin, math.cos) for i in range(6)]
            for step in range(7)
        ]
    )
    assert torch.allclose(places.positions, want, atol=1e-5)
    x = clips(1, (12, 7))
    after = built[1:]
    assert not torch.allclose(after(x), after(x.flip(2)), atol=1e-3)


def test_every_step_of_the_transformer_takes_from_all_of_its_own_row():
    built = trained("transformer_1d", sound())
    blocks, x = built[3], clips(3, (7, 8)).requires_grad_()
    slope = torch.autograd.grad(blocks(x)[1, 0].square().sum(), x)[0]
    assert slope[1].abs().amax(1).all()
    assert not slope[[0, 2]].any()


def test_relevance_goes_both_ways_round_a_block_of_dilated_convolutions():
    """Without biases it adds up to the output; past a sum that is no layer captum's is lost."""
    net = trained("tcn", sound()).double()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.zero_()
        if getattr(layer, "bias", None) is not None:
            layer.bias.data.zero_()
    x, target = clips().double(), torch.arange(6) % 3
    case = Case(
        model=net,
        x=x,
        target=target,
        baseline=torch.zeros_like(x[0]),
        background=x,
        groups=None,
        rng=torch.Generator(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = METHODS["lrp"].function(case, epsilon=1e-12)
    torch.testing.assert_close(found.flatten(1).sum(1), case.output(x), rtol=1e-3, atol=1e-6)
