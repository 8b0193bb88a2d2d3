"""Networks of pictures: their blocks, shapes, sizes, and that methods which walk through layers may."""

import dataclasses
import functools
import importlib
import math
import sys
import warnings

import pytest
import torch
from torch import nn

from assay.benchmarks.blocks import (
    Concat,
    Dense,
    Residual,
    convolution,
    shrink,
    sides_behind,
    stem,
)
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.perturb import difference
from assay.benchmarks.plugin import METHODS, MODELS, Case, NotApplicable, Problem
from assay.benchmarks.registry import Registry, UnknownPluginError

torch.set_num_threads(1)
load_plugins()
CONVOLUTIONAL = ["cnn", "resnet18", "vgg", "alexnet", "densenet", "googlenet"]
ALL = [*CONVOLUTIONAL, "vit"]
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.Softmax)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(*shape, outputs=3, rows=6):
    """Nothing to learn from, but of the right shape."""
    x = torch.rand(rows, *shape, generator=generator(1)) * 2 - 1
    y = torch.rand(rows) if outputs == 1 else torch.arange(rows) % outputs
    if outputs > 1:
        y[0] = outputs - 1
    return Problem(
        x=x,
        y=y,
        task="regression" if outputs == 1 else "classification",
        n_train=rows - 4,
        n_validation=2,
        n_explained=2,
        baseline=torch.zeros(shape),
        background=x[:2],
        masks={"relevant": torch.ones(1, *shape, dtype=torch.bool)},
    )


@pytest.fixture
def untrained(monkeypatch):
    """name, problem, parameters -> the network as it is before training."""

    def build(name, given, **parameters):
        plugin = MODELS[name]
        module = sys.modules[plugin.function.__module__]
        monkeypatch.setattr(module, "descend", lambda net, *_: net)
        torch.manual_seed(0)
        return plugin.function(given, generator(), **parameters).eval().requires_grad_(False)

    return build


def lived_in(net):
    """The network with batch norms as training leaves them: neither means of 0 nor weights of 1."""
    for i, layer in enumerate(m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for part, low, high in (("running_mean", -0.2, 0.2), ("running_var", 0.5, 2), ("weight", 0.7, 1.3)):
            tensor = getattr(layer, part)
            tensor.data = low + (high - low) * torch.rand(tensor.shape, generator=generator(i))
        layer.bias.data = 0.1 * torch.randn(layer.bias.shape, generator=generator(i))
    return net


def case_of(net, given):
    x = given.x[-2:]
    return Case(
        model=net,
        x=x,
        target=torch.tensor([0, 1]) % net(x).shape[1],
        baseline=given.baseline,
        background=given.background,
        groups=None,
        rng=generator(),
    )


def explained(name, case, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return METHODS[name].function(case, **parameters)


@pytest.mark.parametrize(
    "shape", [(3, 16, 16), (3, 32, 32), (3, 64, 64), (3, 224, 224), (1, 20, 28)], ids=str
)
@pytest.mark.parametrize("name", ALL)
def test_small_networks_take_pictures_of_every_size(untrained, name, shape):
    more = {"patch": 16} if name == "vit" and shape[1] > 64 else {}
    given = problem(*shape, outputs=1 if shape[1] == 64 else 3)
    net = untrained(name, given, **more)
    with torch.no_grad():
        assert net(given.x[:2]).shape == (2, given.outputs)
        net.train()(given.x[:1])  # what is left over for the last batch may be one row
    assert sum(p.numel() for p in net.parameters()) < 300_000 or shape[1] > 32


# What is published, with 1000 classes: in torchvision's tables; for GoogLeNet, Caffe's without the auxiliary
# classifiers.  VGG, AlexNet and GoogLeNet there have a bias where ours have batch norm's two numbers; ViT has
# a position of the class token too, which adds to the token.
COUNTS = {
    "resnet18": (11_689_512, 512, 0),
    "vgg": (133_047_848, 4096, 2 * (64 + 128 + 256 + 512 + 512)),
    "alexnet": (61_100_840, 4096, 64 + 192 + 384 + 256 + 256),
    "densenet": (7_978_856, 1024, 0),
    "googlenet": (6_998_552, 1024, 7_280),
    "vit": (86_567_656, 768, -768),
}


@pytest.mark.parametrize("name", COUNTS)
def test_full_networks_have_the_published_numbers_of_weights(untrained, name):
    published, features, norms = COUNTS[name]
    given = problem(3, 224, 224, outputs=10, rows=11)
    with torch.device("meta"):
        net = untrained(name, given, size="full", **({"patch": 16} if name == "vit" else {}))
        assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 10)
    found = sum(p.numel() for p in net.parameters())
    assert found == published - 990 * (features + 1) + norms
    if name == "googlenet":  # that number is the channels of all convolutions
        assert norms == sum(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", ALL)
def test_every_activation_is_a_layer_that_is_used_once_and_not_in_place(untrained, name):
    given = problem(3, 32, 32)
    net, calls = untrained(name, given), []
    leaves = [m for m in net.modules() if not any(m.children())]
    for layer in leaves:
        layer.register_forward_hook(lambda module, *_: calls.append(module))
    before = given.x.clone()
    net(given.x)
    assert len(calls) == len(set(calls)) == len(leaves)
    found = [m for m in leaves if isinstance(m, ACTIVATIONS)]
    assert len(found) >= 3
    assert not any(getattr(m, "inplace", False) for m in leaves)
    assert torch.equal(given.x, before)


@pytest.mark.parametrize("name", ALL)
def test_no_activation_is_a_function(untrained, name):
    """Without its activation layers the network is linear, if attention and its norms are left out."""
    given = problem(3, 16, 16)
    net = lived_in(untrained(name, given, **({"depth": 1} if name == "vit" else {})))
    for parent in list(net.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, (nn.ReLU, nn.GELU, nn.LayerNorm)):
                setattr(parent, key, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding)
                setattr(parent, key, pool)
            elif isinstance(child, nn.Softmax):
                setattr(parent, key, Uniform())
    net = net.double()
    a, b = given.x[:1].double(), given.x[1:2].double()
    torch.testing.assert_close(net(a) + net(b) - net(torch.zeros_like(a)), net(a + b))


class Uniform(nn.Module):
    """Attention to all alike."""

    def forward(self, x):
        return torch.full_like(x, 1 / x.shape[-1])


@pytest.mark.parametrize("name", ALL)
def test_rows_do_not_meet(untrained, name):
    given = problem(3, 32, 32)
    net = lived_in(untrained(name, given))
    torch.testing.assert_close(net(given.x)[:1], net(given.x[:1]), atol=1e-5, rtol=1e-4)
    assert not torch.equal(net(given.x[:1]), net(given.x[1:2]))


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_picture_is_refused(untrained, name):
    with pytest.raises(NotApplicable, match=r"gets features of shape \(5,\)"):
        untrained(name, problem(5))


def test_vit_refuses_what_patches_do_not_divide(untrained):
    with pytest.raises(NotApplicable, match="squares of 5 x 5, and gets 32 x 30"):
        untrained("vit", problem(3, 32, 30), patch=5)


@pytest.mark.parametrize("parameters", [{"readout": "mean"}, {"depth": 2}, {"patch": 8}])
def test_parameters_of_vit_are_used(untrained, parameters):
    given = problem(3, 16, 16)
    assert not torch.allclose(
        untrained("vit", given, **parameters)(given.x), untrained("vit", given)(given.x)
    )


@pytest.mark.parametrize("name", ["vit"])
def test_deep_lift_is_complete_where_no_pooling_takes_maxima(untrained, name):
    given = problem(3, 16, 16)
    net = lived_in(untrained(name, given)).double()
    case = case_of(net, dataclasses.replace(given, x=given.x.double(), baseline=given.baseline.double()))
    torch.testing.assert_close(explained("deep_lift", case).flatten(1).sum(1), difference(case))


@pytest.mark.parametrize("method", ["deep_lift", "guided_backprop", "grad_cam"])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_methods_by_layers_apply(untrained, name, method):
    given = problem(3, 16, 16)
    found = explained(method, case_of(lived_in(untrained(name, given)), given))
    assert found.shape == (2, 3, 16, 16)
    assert found.isfinite().all()


def unbiased(net):
    """The network without a bias anywhere, so that relevance has nowhere to go but to the picture."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.zero_()
        if getattr(layer, "bias", None) is not None:
            layer.bias.data.zero_()
    return net.double()


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_relevance_is_kept_layer_by_layer(untrained, name):
    """Without biases and by the epsilon rule the map adds up to the output, through all branches."""
    given = problem(3, 16, 16)
    net = unbiased(lived_in(untrained(name, given)))
    case = case_of(net, dataclasses.replace(given, x=given.x.double(), baseline=given.baseline.double()))
    found = explained("lrp", case, epsilon=1e-12)
    torch.testing.assert_close(found.flatten(1).sum(1), case.output(case.x), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_relevance_applies_with_batch_norms_as_trained(untrained, name):
    given = problem(3, 16, 16)
    found = explained("lrp", case_of(lived_in(untrained(name, given)), given))
    assert found.isfinite().all()


def test_blocks_compute_what_they_say():
    x = torch.randn(2, 3, 5, 5, generator=generator())
    twice, thrice = nn.Conv2d(3, 3, 1, groups=3, bias=False), nn.Conv2d(3, 3, 1, groups=3, bias=False)
    twice.weight.data.fill_(2), thrice.weight.data.fill_(3)
    torch.testing.assert_close(Residual(twice)(x), 3 * x)
    torch.testing.assert_close(Residual(twice, thrice)(x), 5 * x)
    torch.testing.assert_close(Concat(twice, thrice)(x), torch.cat([2 * x, 3 * x], 1))
    torch.testing.assert_close(Dense(twice)(x), torch.cat([x, 2 * x], 1))


@pytest.mark.parametrize(("side", "left"), [(224, 56), (128, 32), (127, 64), (64, 32), (63, 63), (32, 32)])
def test_stems_go_by_the_size_of_the_picture(side, left):
    layers = stem(3, 4, side)
    assert sides_behind(layers, (3, side, side + 2))[0] == left
    norm = layers[1]
    assert norm.num_batches_tracked == 0  # the probe must not count as training
    assert norm.training


@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 0), (3, 1)])
@pytest.mark.parametrize("side", range(2, 14))
def test_poolings_leave_the_sides_that_they_announce(side, kernel, padding):
    layers = []
    left = shrink(layers, (side, side + 1), kernel, padding)
    assert nn.Sequential(*layers)(torch.zeros(1, 1, side, side + 1)).shape[2:] == left
    assert min(left) >= 2
    possible = math.floor((side + 2 * padding - kernel) / 2) + 1 >= 2
    assert bool(layers) == possible


def test_convolutions_keep_the_sides_and_have_one_bias():
    layer, norm, activation = convolution(3, 4, 5)
    assert layer(torch.zeros(1, 3, 9, 8)).shape == (1, 4, 9, 8)
    assert layer.bias is None
    assert (type(norm), type(activation)) == (nn.BatchNorm2d, nn.ReLU)


def test_without_torchvision_the_model_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it were not installed
    path = "assay.models.torchvision"
    monkeypatch.delitem(sys.modules, path, raising=False)
    registry = Registry("model")
    registry._pending["torchvision"] = functools.partial(importlib.import_module, path)
    with pytest.raises(UnknownPluginError, match="needs torchvision, which is not installed"):
        registry["torchvision"]


def test_torchvision_builds_architectures_for_the_problem(untrained):
    if "torchvision" not in {plugin.name for plugin in MODELS}:
        pytest.skip(MODELS.unavailable["torchvision"])
    given = problem(3, 32, 32)
    for name in ("resnet18", "vit_b_32", "mobilenet_v2"):
        net = untrained("torchvision", given, name=name)
        assert net(given.x).shape == (6, 3)
        assert not any(getattr(m, "inplace", False) for m in net.modules())
    with pytest.raises(NotApplicable, match="alexnet of torchvision cannot take"):
        untrained("torchvision", given, name="alexnet")
