"""Blur integrated gradients against SciPy's blur and the sums that they must have."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, Case, NotApplicable

torch.set_num_threads(1)
load_plugins()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def case_of(model, x, baseline=0.0):
    return Case(
        model=model.eval().requires_grad_(False),
        x=x,
        target=torch.zeros(len(x), dtype=torch.int64),
        baseline=torch.full(x.shape[1:], baseline),
        background=x,
        groups=None,
        rng=torch.Generator().manual_seed(0),
    )


def linear(shape):
    layer = nn.Linear(shape.numel(), 1)
    layer.weight.data = draw(1, shape.numel(), seed=1)
    return nn.Sequential(nn.Flatten(), layer)


def bent(seed=2):
    torch.manual_seed(seed)
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    return nn.Sequential(convolution, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 6, 1))


def blurred(x, sigma):
    """SciPy's, each picture and channel alone, with 0 outside."""
    options = {"mode": "constant", "truncate": 8}
    found = [[gaussian_filter(c.double().numpy(), sigma, **options) for c in row] for row in x]
    return torch.from_numpy(np.array(found))


def blur_ig(case, **given):
    return METHODS["blur_ig"].function(case, **given)


@pytest.mark.parametrize("steps", [1, 7])
def test_of_a_linear_model_it_is_the_weight_times_what_the_blur_takes(steps):
    x = draw(3, 3, 10, 14)
    model = linear(x[0].shape)
    found = blur_ig(case_of(model, x), steps=steps, sigma=0.1)
    wanted = model[1].weight.view(x[0].shape).double() * (x - blurred(x, 1.4))
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-4)


def test_sums_are_what_the_output_loses_by_the_widest_blur():
    x = draw(4, 3, 8, 12)
    model = bent()
    found = blur_ig(case_of(model, x), steps=100, sigma=0.25).flatten(1).sum(1)
    with torch.no_grad():
        wanted = (model(x) - model(blurred(x, 3.0).float())).squeeze(1)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    assert wanted.abs().max() > 0.1


def test_the_gradient_is_taken_halfway_through_the_step():
    x = draw(2, 3, 8, 12)
    model = bent()
    middle = blurred(x, 1.5).float().requires_grad_()
    (slope,) = torch.autograd.grad(model(middle).sum(), middle)
    wanted = slope * (x - blurred(x, 3.0).float())
    found = blur_ig(case_of(model, x), steps=1, sigma=0.25)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_baseline_has_no_part_in_it():
    x = draw(2, 3, 8, 12)
    case = case_of(bent(), x)
    other = dataclasses.replace(case, baseline=torch.ones(3, 8, 12))
    assert torch.equal(blur_ig(case, steps=3), blur_ig(other, steps=3))


def test_rows_of_a_table_are_no_pictures():
    with pytest.raises(NotApplicable, match="pictures"):
        blur_ig(case_of(linear(torch.Size([5])), draw(2, 5)))
