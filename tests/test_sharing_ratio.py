"""Sharing ratio decomposition against its definition, one receptive field at a time."""

import pytest
import torch
from torch import nn

from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, Case, NotApplicable

torch.set_num_threads(1)
load_plugins()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ready(*layers, seed=0):
    """A network in float64 whose weights, and running statistics, are random."""
    model = nn.Sequential(*layers).double().eval().requires_grad_(False)
    for i, (name, value) in enumerate(model.state_dict().items()):
        if value.is_floating_point():
            value.copy_(0.5 * draw(*value.shape, seed=100 * seed + i))
            if name.endswith("running_var"):
                value.abs_().add_(0.1)
    return model


def case_of(model, x, outputs=2):
    return Case(
        model=model,
        x=x,
        target=torch.arange(len(x)) % outputs,
        baseline=torch.zeros_like(x[0]),
        background=x,
        groups=None,
        rng=torch.Generator().manual_seed(0),
    )


def sharing_ratio(case):
    return METHODS["sharing_ratio"].function(case)


def sum_over_channels(case):
    return sharing_ratio(case).sum(1)


def by_definition(layers, x, worth):
    """Every layer's ratios from what it makes of each place alone; one row, [channels, height, width]."""
    given = [x]
    for layer in layers:
        given.append(layer(given[-1][None])[0])
    for layer, before, after in zip(layers[::-1], given[-2::-1], given[:0:-1], strict=True):
        if not isinstance(layer, nn.Conv2d | nn.AvgPool2d):
            continue  # its ratio is 1
        nothing = layer(torch.zeros_like(before)[None])[0]
        shares = torch.zeros(*before.shape[1:], dtype=torch.float64)
        alone, reaches = {}, {}
        for i in torch.ones(before.shape[1:]).nonzero().tolist():
            only, one = torch.zeros_like(before), torch.zeros_like(before)
            only[:, i[0], i[1]], one[:, i[0], i[1]] = before[:, i[0], i[1]], draw(len(before), seed=9)
            alone[tuple(i)] = layer(only[None])[0] - nothing
            reaches[tuple(i)] = (layer(one[None])[0] != nothing).any(0)
        field = sum(r.double() for r in reaches.values())
        for i, part in alone.items():
            part = part + torch.where(reaches[i], nothing / field, 0)
            ratio = (part * after).sum(0) / (after**2).sum(0)
            ratio = torch.where((after == 0).all(0), reaches[i] / field, ratio)
            shares[i] = (ratio * worth).sum()
        worth = shares
    return worth


def last_worth(model, cut, x, target):
    """What each vector of the last map contributes: its inner product with the gradient of the output."""
    inner = model[:cut](x[None]).requires_grad_()
    (slope,) = torch.autograd.grad(model[cut:](inner)[0, target], inner)
    return (slope * inner.detach())[0].sum(0)


NETWORKS = {
    "one convolution": (1, [nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 4 * 5, 2)]),
    "padded, with a bias": (1, [nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 6 * 7, 2)]),
    "strided and deep": (
        5,
        [
            *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 5, 2, stride=2), nn.GELU()),
            *(
                nn.AvgPool2d((1, 2), stride=1),
                nn.Flatten(),
                nn.Linear(5 * 3 * 2, 6),
                nn.Tanh(),
                nn.Linear(6, 2),
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_made_of_projections(name):
    cut, layers = NETWORKS[name]
    model, x = ready(*layers), draw(2, 3, 6, 7, seed=3)
    wanted = [by_definition(model[:cut], row, last_worth(model, cut, row, t)) for t, row in enumerate(x)]
    torch.testing.assert_close(sum_over_channels(case_of(model, x)), torch.stack(wanted))


def test_a_vector_of_zeros_is_owed_to_its_field_in_equal_parts():
    model = ready(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.GELU(), nn.Conv2d(4, 5, 3), nn.Flatten())
    x = draw(1, 3, 6, 7, seed=3)
    x[:, :, :4, :4] = 0
    wanted = by_definition(model[:3], x[0], last_worth(model, 3, x[0], 7))
    case = case_of(model, x)
    case.target[:] = 7
    assert not model[0](x)[0, :, 1, 1].any()
    torch.testing.assert_close(sum_over_channels(case)[0], wanted)


def test_of_a_network_without_biases_that_is_linear_in_the_end_the_map_sums_to_the_output():
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model, x = ready(*layers, nn.Linear(5, 2, bias=False)), draw(4, 3, 8, 8, seed=4)
    case = case_of(model, x)
    torch.testing.assert_close(sharing_ratio(case).flatten(1).sum(1), case.output(x))


def test_batch_normalisation_counts_as_part_of_its_convolution():
    head = [nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2)]
    model, x = ready(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *head), draw(3, 3, 6, 6, seed=5)
    whole = torch.nn.utils.fusion.fuse_conv_bn_eval(model[0], model[1])
    torch.testing.assert_close(
        sharing_ratio(case_of(model, x)), sharing_ratio(case_of(nn.Sequential(whole, *model[2:]), x))
    )


def test_maximum_pooling_hands_each_channel_to_the_place_it_is_from():
    """Two channels, one window: v = (3, 4) is made of (3, 0) and (0, 4), whose ratios are 9/25 and 16/25."""
    x = torch.zeros(1, 2, 2, 4, dtype=torch.float64)
    x[0, :, 0, 0], x[0, :, 1, 1] = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 4.0])
    x[0, :, :, 2:] = 5
    same = nn.Conv2d(2, 2, 1, bias=False)
    model = nn.Sequential(same, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 1, bias=False))
    model = model.double().requires_grad_(False)
    same.weight.copy_(torch.eye(2)[:, :, None, None])
    model[3].weight.copy_(torch.tensor([[1.0, 0.0, 1.0, 0.0]]))  # reads the first window alone: 3 + 4
    found = sum_over_channels(case_of(model, x, outputs=1))[0]
    wanted = torch.zeros(2, 4, dtype=torch.float64)
    wanted[0, 0], wanted[1, 1] = 7 * 9 / 25, 7 * 16 / 25
    torch.testing.assert_close(found, wanted)


def test_classes_differ():
    _, layers = NETWORKS["strided and deep"]
    model, x = ready(*layers), draw(1, 3, 6, 7, seed=3).expand(2, -1, -1, -1)
    first, second = sharing_ratio(case_of(model, x))
    assert not torch.allclose(first, second)


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.bend, self.second = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 2))

    def forward(self, x):
        return self.head(self.second(self.bend(self.first(x) + x)))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (ready(Skipping()), "0.bend, ReLU, is given something else"),
        (ready(nn.Conv2d(3, 3, 1), nn.Softmax2d(), nn.Flatten(), nn.Linear(48, 2)), "layer 1, Softmax2d"),
        (
            ready(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2)),
            "1, ReLU, overwrites",
        ),
        (ready(nn.Flatten(), nn.Linear(48, 2)), "has none"),
    ],
)
def test_what_is_no_plain_chain_is_named(model, why):
    with pytest.raises(NotApplicable, match=why):
        sharing_ratio(case_of(model, draw(2, 3, 4, 4)))
