"""Methods that take regions of pictures away, or search for them, where the answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
from skimage.morphology import dilation
from skimage.segmentation import felzenszwalb, slic
from torch import nn

from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import METHODS, Case, NotApplicable

torch.set_num_threads(1)
load_plugins()
OURS = ["extremal_perturbation", "igos", "path_intervention", "prediction_difference", "xrai"]
SIDE = 16
INSIDE = torch.zeros(SIDE, SIDE, dtype=torch.bool)
INSIDE[4:12, 4:12] = True  # a quarter of the picture, in whole cells of 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def linear(weight, scale=1.0):
    """The sum of the picture times each of the weights, [outputs, channels, height, width]."""
    layer = nn.Linear(weight[0].numel(), len(weight), bias=False)
    layer.weight.data = scale * weight.flatten(1)
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)


def case_of(model, x, **given):
    patches = torch.arange(SIDE) // 4
    facts = {
        "target": torch.zeros(len(x), dtype=torch.int64),
        "baseline": torch.zeros_like(x[0]),
        "background": x,
        "groups": (4 * patches[:, None] + patches).expand(x.shape[1:]) if x.shape[-1] == SIDE else None,
        "rng": generator(),
    }
    return Case(model=model, x=x, **(facts | given))


def convolved(model):
    """The same after a convolution that changes nothing."""
    same = nn.Conv2d(3, 3, 1, bias=False)
    same.weight.data = torch.eye(3)[:, :, None, None]
    return nn.Sequential(same, *model).eval().requires_grad_(False)


def square_case(scale=1.0, rows=2):
    """A bright square on faint noise, and a model that sums exactly its pixels."""
    x = (0.1 * draw(rows, 3, SIDE, SIDE)).where(~INSIDE, 0.9)
    return case_of(convolved(linear(INSIDE.expand(1, 3, -1, -1).float(), scale)), x)


def run(name, case, **given):
    return METHODS[name].function(case, **given)


def summed(name, case, **given):
    """The map, one number a place."""
    return run(name, case, **given).sum(1)


@pytest.mark.parametrize("name", OURS)
def test_the_square_that_the_model_sums_is_found(name):
    found = summed(name, square_case())
    if name == "prediction_difference":  # some superpixels lie across the border, and large ones weigh more
        assert (found[:, INSIDE].mean(1) > 3 * found[:, ~INSIDE].mean(1)).all()
        return
    lowest, highest = found[:, 5:11, 5:11].flatten(1).amin(1), found[:, ~INSIDE].amax(1)
    assert (lowest > highest).all()


@pytest.mark.parametrize("name", OURS)
def test_all_channels_of_a_place_get_the_same(name):
    found = run(name, square_case())
    torch.testing.assert_close(found, found[:, :1].expand_as(found))


@pytest.mark.parametrize("name", OURS)
def test_rows_of_a_table_are_no_pictures(name):
    x = draw(2, 5)
    with pytest.raises(NotApplicable, match="pictures"):
        run(name, case_of(linear(draw(1, 5)), x, groups=None))


@pytest.mark.parametrize("name", ["extremal_perturbation", "igos"])
def test_masks_do_not_depend_on_the_scale_of_the_output(name):
    torch.testing.assert_close(run(name, square_case()), run(name, square_case(1000.0)), atol=1e-4, rtol=0)


# ---- extremal perturbation ------------------------------------------------------------------------------


def test_the_mask_has_its_area_and_is_the_square():
    found = summed("extremal_perturbation", square_case(), area=0.25, cells=4)
    torch.testing.assert_close(found.mean((1, 2)), torch.full((2,), 0.25), atol=0.02, rtol=0)
    assert found[:, 6:10, 6:10].min() > 0.99
    far = ~INSIDE.clone()
    far[2:14, 2:14] = False
    assert found[:, far].max() < 0.15


@pytest.mark.parametrize("area", [0.1, 0.5])
def test_the_mask_has_any_area(area):
    found = summed("extremal_perturbation", square_case(), area=area)
    torch.testing.assert_close(found.mean((1, 2)), torch.full((2,), area), atol=0.05, rtol=0)


def test_the_mask_goes_where_the_explained_class_is():
    left, right = torch.zeros(2, 3, SIDE, SIDE).unbind()
    left[:, 4:12, :8], right[:, 4:12, 8:] = 1, 1
    case = case_of(
        linear(torch.stack([left, right])), torch.ones(2, 3, SIDE, SIDE), target=torch.tensor([0, 1])
    )
    first, second = summed("extremal_perturbation", case, area=0.25)
    assert first[4:12, :8].mean() > 0.8
    assert first[:, 8:].mean() < 0.1
    torch.testing.assert_close(first.flip(1), second, atol=1e-4, rtol=0)


def test_what_is_outside_the_mask_is_the_baseline():
    """Where the baseline is the square itself, there is nothing to keep in it."""
    case = square_case()
    weight = INSIDE.expand(1, 3, -1, -1).float() + 0.1
    moved = dataclasses.replace(
        case, model=linear(weight), baseline=torch.where(INSIDE, 0.9, -1.0) + 0 * case.x[0]
    )
    found = summed("extremal_perturbation", moved, area=0.25)
    assert found[:, INSIDE].mean() < 0.1


# ---- I-GOS ----------------------------------------------------------------------------------------------


def test_of_a_linear_model_the_optimum_is_known_cell_by_cell():
    """Without smoothness a cell goes if its share of the fall exceeds its share of the area."""
    x, weight = draw(3, 3, SIDE, SIDE, seed=1), draw(1, 3, SIDE, SIDE, seed=2).abs()
    x = x.abs()
    cells = torch.zeros(1, 1, 4, 4, requires_grad=True)
    mask = nn.functional.interpolate(cells, (SIDE, SIDE), mode="bilinear")
    found = summed("igos", case_of(linear(weight), x), cells=4, smooth=0.0, steps=40)
    for row, map_ in zip(x, found, strict=True):
        (fall,) = torch.autograd.grad((mask * row * weight).sum(), cells, retain_graph=True)
        margin = fall / fall.sum() * 16 - 1
        gone = nn.functional.interpolate((margin > 0).float(), (SIDE, SIDE), mode="bilinear")[0, 0]
        torch.testing.assert_close(map_, gone, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("sparse", "deleted"), [(100.0, 0.0), (0.0, 1.0)])
def test_the_weight_of_the_area_decides_how_much_goes(sparse, deleted):
    case = case_of(linear(torch.ones(1, 3, SIDE, SIDE)), draw(2, 3, SIDE, SIDE).abs() + 0.5)
    found = summed("igos", case, sparse=sparse, smooth=0.0, steps=30)
    torch.testing.assert_close(found, torch.full_like(found, deleted))


def test_smooth_masks_change_less_from_cell_to_cell_but_at_edges():
    x = torch.zeros(1, 3, SIDE, SIDE)
    x[..., 8:] = 0.02  # no edge
    case = case_of(linear(torch.ones(1, 3, SIDE, SIDE)), x)
    rough, smooth = (summed("igos", case, smooth=s, cells=4)[0] for s in (0.0, 10.0))
    assert rough.diff(dim=1).abs().max() > 2 * smooth.diff(dim=1).abs().max()
    edge = dataclasses.replace(case, x=50 * x)
    torch.testing.assert_close(summed("igos", edge, smooth=10.0, cells=4)[0], rough, atol=0.05, rtol=0)


def test_integrated_gradients_leave_a_plateau():
    """The output does not fall before most of the square is gone: its gradient at the picture is 0."""

    class Plateau(nn.Module):
        def forward(self, x):
            return (x.clamp(0, 1) * INSIDE).mean((1, 2, 3), keepdim=False)[:, None].clamp(max=0.15)

    x = torch.ones(1, 3, SIDE, SIDE)
    seen = x.clone().requires_grad_()
    assert not torch.autograd.grad(Plateau()(seen).sum(), seen)[0].any()
    found = summed("igos", case_of(Plateau(), x), smooth=0.0)
    assert found[:, INSIDE].mean() > found[:, ~INSIDE].mean() + 0.2


# ---- XRAI -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", [0, 1])
def test_xrai_is_its_algorithm_on_sets(border):
    """Of a linear model, integrated gradients from -1 and from 1 average to weight x picture."""
    x, weight = draw(2, 3, 12, 12, seed=3).clamp(-1, 1), draw(1, 3, 12, 12, seed=4)
    found = summed("xrai", case_of(linear(weight), x), steps=2, smallest=3, border=border)
    for row, map_ in zip(x, found, strict=True):
        pixels = (row * weight[0]).sum(0).flatten().tolist()
        picture, segments = row.double().movedim(0, -1).numpy(), set()
        for scale in (50, 100, 150, 250, 500, 1200):
            label = felzenszwalb(picture, scale=scale, sigma=0.8, min_size=3)
            for one in range(label.max() + 1):
                grown = dilation(label == one, np.ones((2 * border + 1, 2 * border + 1)))
                segments.add(frozenset(np.flatnonzero(grown).tolist()))
        values, done = {}, set()
        while len(done) < len(pixels):
            gains = {s - done: sum(pixels[i] for i in s - done) / len(s - done) for s in segments if s - done}
            best = max(gains, key=gains.get)
            values |= dict.fromkeys(best, gains[best])
            done |= best
        wanted = torch.tensor([values[i] for i in range(len(pixels))]).view_as(map_)
        torch.testing.assert_close(map_, wanted)


def test_the_one_segment_of_a_flat_picture_has_the_mean_attribution():
    weight = draw(1, 3, SIDE, SIDE)
    found = summed("xrai", case_of(linear(weight), torch.full((1, 3, SIDE, SIDE), 0.5)))
    torch.testing.assert_close(found, (0.5 * weight.sum(1)).mean().expand(1, SIDE, SIDE))


# ---- prediction difference ------------------------------------------------------------------------------


def framed(*shape):
    """Pictures whose border has one colour, so that regions are replaced by this colour; noisy squares."""
    squares = draw(*shape[:2], 4, 4, seed=5).repeat_interleave(SIDE // 4, 2).repeat_interleave(SIDE // 4, 3)
    x = (squares + 0.05 * draw(*shape, seed=15)).clamp(-1, 1)
    x[..., [0, -1], :] = x[..., [0, -1]] = 0.25
    return x


@pytest.mark.parametrize("outputs", [1, 3])
def test_regions_are_worth_what_the_log_odds_lose(outputs):
    """Of two classes, log odds are the difference of their outputs; the third has no chance."""
    x, weight = framed(2, 3, SIDE, SIDE), 0.1 * draw(outputs, 3, SIDE, SIDE, seed=6)
    model = linear(weight)
    if outputs == 3:
        weight[2] = 0
        model[1].weight.data = weight.flatten(1)
        model[1].bias = nn.Parameter(torch.tensor([0.0, 0.0, -200.0]), requires_grad=False)
    target = torch.tensor([0, outputs // 2])
    found = summed("prediction_difference", case_of(model, x, target=target), coarsest=8, scales=2)
    for row, map_, chosen in zip(x, found, target.tolist(), strict=True):
        away = weight[chosen] - (weight[1 - chosen] if outputs == 3 else 0)
        lost = (away * (row - 0.25)).sum(0)
        picture, wanted = ((row.double() + 1) / 2).movedim(0, -1).numpy(), torch.zeros_like(map_)
        for count in (8, 16):
            label = torch.from_numpy(slic(picture, n_segments=count))
            assert count // 2 <= label.max() <= 2 * count
            for one in label.unique():
                wanted[label == one] += lost[label == one].sum() / 2
        torch.testing.assert_close(map_, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("asked", [8, 16, 64])
def test_noise_is_cut_into_about_as_many_regions_as_are_asked_for(asked):
    """SLIC by itself merges the specks that it finds there, into one region of all pixels or a few."""
    x = 2 * torch.rand(2, 3, 32, 32, generator=generator(3)) - 1
    usual = [slic(row.movedim(0, -1).double().numpy() / 2 + 0.5, n_segments=asked).max() for row in x]
    assert max(usual) < asked / 4
    weight = draw(1, 3, 32, 32)
    found = summed("prediction_difference", case_of(linear(weight), x), coarsest=asked, scales=1)
    for row in found:
        values, pixels = row.unique(return_counts=True)
        assert asked / 2 <= len(values) <= 1.5 * asked
        assert pixels.max() < 4 * 32 * 32 / asked  # none that swallows the others


def test_a_picture_of_fewer_pixels_than_regions_is_cut_all_the_same():
    x = 2 * torch.rand(1, 3, 3, 3, generator=generator(3)) - 1
    found = run("prediction_difference", case_of(linear(draw(1, 3, 3, 3)), x), coarsest=100, scales=1)
    assert found.isfinite().all()


def test_regions_are_filled_from_the_distribution_of_the_border():
    """Means and products of the colours that the model meets inside are those of the border."""
    x = draw(1, 3, SIDE, SIDE, seed=7)
    x[:, 1] = 0.5 * x[:, 0] - 1
    met = []

    class Watching(nn.Module):
        def forward(self, batch):
            met.append(batch)
            return batch.mean((1, 2, 3))[:, None]

    run("prediction_difference", case_of(Watching(), x), coarsest=1, scales=1, samples=40)
    seen = torch.cat([batch for batch in met if len(batch) > 1]).movedim(1, 0).flatten(1)
    frame = torch.cat([x[0, :, 0], x[0, :, -1], x[0, :, 1:-1, 0], x[0, :, 1:-1, -1]], 1)
    torch.testing.assert_close(seen.mean(1), frame.mean(1), atol=0.05, rtol=0)
    torch.testing.assert_close(seen.cov(), frame.cov(correction=0), atol=0.06, rtol=0)


def test_the_probability_is_averaged_over_draws_not_the_log_odds():
    x = draw(1, 3, SIDE, SIDE, seed=7)
    met = []

    class Watching(nn.Module):
        def forward(self, batch):
            score = 40 * batch.mean((1, 2, 3))
            met.append(score)
            return torch.stack([score, torch.zeros_like(score)], 1)

    found = summed("prediction_difference", case_of(Watching(), x), coarsest=1, scales=1, samples=9)
    share = torch.cat([scores for scores in met if len(scores) > 1])[-9:].double().sigmoid().mean()
    wanted = 40 * x.double().mean() - torch.logit(share)
    torch.testing.assert_close(found.double(), wanted.expand_as(found), atol=1e-3, rtol=1e-3)


# ---- path intervention ----------------------------------------------------------------------------------


def two_filters(second):
    """The first convolution copies channel 0 and channel 1; the next adds them, the second so many times."""
    first, last = nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False)
    first.weight.data = torch.eye(2)[:, :, None, None]
    last.weight.data = torch.tensor([1.0, second])[None, :, None, None]
    head = linear(draw(1, 1, SIDE, SIDE, seed=8).abs())
    return nn.Sequential(first, nn.Identity(), last, *head).eval().requires_grad_(False), head[1].weight


@pytest.mark.parametrize(("second", "causal"), [(0.1, [1.0, 0.0]), (10.0, [0.0, 10.0])])
@pytest.mark.parametrize("given", [{"share": 0.5}, {"share": 1.0, "filters": 1}])
def test_units_count_by_what_they_send_to_causal_filters(second, causal, given):
    model, weight = two_filters(second)
    case = case_of(model, draw(2, 2, SIDE, SIDE, seed=9).abs())
    sent = (case.x * torch.tensor(causal)[:, None, None] * weight.view(SIDE, SIDE)).sum(1)
    wanted = nn.functional.avg_pool2d(sent[:, None], 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(
        summed("path_intervention", case, **given)[:, None], wanted, atol=1e-4, rtol=1e-3
    )


def test_filters_without_effect_are_not_causal():
    """The second filter is switched off, and would be switched on by what it is not sent."""
    first, last = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1, bias=False)
    first.weight.data = torch.tensor([[1.0, 0.0], [0.0, -1.0]])[:, :, None, None]
    first.bias.data = torch.tensor([0.0, 0.5])
    last.weight.data = torch.ones(1, 2, 1, 1)
    layers = [first, nn.ReLU(), last, nn.Flatten(), nn.Linear(SIDE * SIDE, 1, bias=False)]
    layers[-1].weight.data.fill_(1)
    case = case_of(nn.Sequential(*layers).eval().requires_grad_(False), torch.ones(1, 2, SIDE, SIDE))
    found = summed("path_intervention", case, share=1.0)
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-3, rtol=0)


def test_with_all_paths_it_is_ablation():
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3), nn.GELU(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(5 * 14 * 14, 2))
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.4 * draw(*parameter.shape, seed=i)
    case = case_of(model.eval().requires_grad_(False), draw(3, 3, SIDE, SIDE), target=torch.tensor([0, 1, 0]))
    torch.testing.assert_close(
        run("path_intervention", case, share=1.0), run("feature_ablation", case), atol=1e-4, rtol=1e-3
    )
    assert not torch.allclose(
        run("path_intervention", case, share=0.3), run("feature_ablation", case), atol=1e-2
    )


def test_convolutions_that_do_not_follow_each_other_are_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PixelShuffle(2), nn.Conv2d(1, 2, 1), nn.Flatten())
    with pytest.raises(NotApplicable, match="2 takes 1 channels after one that makes 4"):
        run("path_intervention", case_of(model.eval(), draw(2, 3, SIDE, SIDE)))
