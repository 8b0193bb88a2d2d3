"""Maps made of a layer's activations and gradients, and of edges, against closed forms, loops and captum."""

import dataclasses
import warnings

import pytest
import torch
from captum.attr import GuidedGradCam, LayerGradCam
from torch import nn
from torch.nn import functional

from assay.benchmarks import perturb
from assay.benchmarks.explaining import explainer
from assay.benchmarks.layermaps import activations_of, layer_maps, over_channels
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.metering import counted
from assay.benchmarks.plugin import METHODS, Case, NotApplicable, Note
from assay.benchmarks.promises import traces
from assay.benchmarks.spec import setting

torch.set_num_threads(1)
load_plugins()
MAPS = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "norm_grad"]
LAYERED = [*MAPS, "guided_grad_cam"]
SIZE, CLASSES, ROWS, CHANNELS = (6, 8), 3, 4, 5


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def set_at_random(model):
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.5 * draw(*parameter.shape, seed=i)
    return model.double().eval().requires_grad_(False)


def pooled():
    """One convolution, its positive part, the mean over the places, and a linear layer: the CAM network."""
    return set_at_random(
        nn.Sequential(
            *(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
            *(nn.Flatten(), nn.Linear(CHANNELS, CLASSES)),
        )
    )


def placed():
    """The same with a weight for every place, so that gradients differ from place to place."""
    places = CHANNELS * SIZE[0] * SIZE[1]
    layers = (nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(places, CLASSES))
    return set_at_random(nn.Sequential(*layers))


def deep(activation=nn.ReLU):
    """Two convolutions with pooling after each: maps must be upsampled."""
    return set_at_random(
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3, padding=1), activation(), nn.MaxPool2d(2), nn.Conv2d(4, CHANNELS, 2)),
            *(activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, CLASSES)),
        )
    )


def case(model, shape=(3, *SIZE), **changed):
    given = {
        "model": model,
        "x": draw(ROWS, *shape, seed=50),
        "target": torch.arange(ROWS) % CLASSES,
        "baseline": torch.zeros(shape, dtype=torch.float64),
        "background": draw(3, *shape, seed=51),
        "groups": None,
        "rng": torch.Generator().manual_seed(0),
    }
    return Case(**given | changed)


def run(name, given, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        return explainer(setting(METHODS[name], parameters))(given)


def place_map(name, given, **parameters):
    """The map whose equal shares the channels have."""
    found = run(name, given, **parameters)
    torch.testing.assert_close(found, found[:, :1].expand_as(found), rtol=0, atol=0)
    return found.sum(1)


def activations(given):
    """Of the networks that begin with a convolution and a ReLU."""
    return given.model[1](given.model[0](given.x))


def place_weights(given):
    return given.model[-1].weight[given.target].view(ROWS, CHANNELS, *SIZE)


# ---- closed forms ---------------------------------------------------------------------------------------


def test_grad_cam_is_the_class_activation_map_before_mean_pooling():
    """Zhou et al. 2016: sum_k w_k A_k; Grad-CAM's weights are these over the number of places."""
    given = case(pooled())
    weight = given.model[-1].weight[given.target]
    wanted = torch.einsum("nk,nkij->nij", weight, activations(given)) / (SIZE[0] * SIZE[1])
    torch.testing.assert_close(place_map("grad_cam", given, relu=False), wanted)
    torch.testing.assert_close(place_map("grad_cam", given), wanted.clamp_min(0))
    assert (wanted < 0).any()


def test_the_class_activation_map_adds_up_to_the_logit_less_its_bias():
    given = case(pooled())
    total = run("grad_cam", given, relu=False).flatten(1).sum(1)
    torch.testing.assert_close(total, given.output(given.x) - given.model[-1].bias[given.target])


def test_grad_cam_averages_the_gradients_of_a_channel():
    given = case(placed())
    wanted = (place_weights(given).mean((2, 3), keepdim=True) * activations(given)).sum(1).clamp_min(0)
    torch.testing.assert_close(place_map("grad_cam", given), wanted)
    assert (wanted > 0).any()


def test_layer_cam_weighs_each_activation_by_its_own_positive_gradient():
    given = case(placed())
    a, g = activations(given), place_weights(given)
    wanted = torch.zeros(ROWS, *SIZE, dtype=torch.float64)
    for n, k, i, j in torch.cartesian_prod(*(torch.arange(s) for s in a.shape)).tolist():
        wanted[n, i, j] += max(float(g[n, k, i, j]), 0.0) * float(a[n, k, i, j])
    torch.testing.assert_close(place_map("layer_cam", given), wanted)


def test_layer_cam_drops_what_negative_activations_make_negative():
    model = placed()
    model[1] = nn.Tanh()
    given = case(model)
    total = (place_weights(given).clamp_min(0) * activations(given)).sum(1)
    torch.testing.assert_close(place_map("layer_cam", given), total.clamp_min(0))
    assert (total < 0).any()


def test_grad_cam_plus_plus_is_what_the_derivatives_of_the_exponential_give():
    """Equations of the paper for Y = exp(S), in loops; the factor exp(S) of the whole map is left out."""
    given = case(placed())
    a, g, s = activations(given), place_weights(given), given.output(given.x)
    wanted = torch.zeros(ROWS, *SIZE, dtype=torch.float64)
    for n in range(ROWS):
        y = float(s[n].exp())
        for k in range(CHANNELS):
            mass, weight = float(a[n, k].sum()), 0.0
            for slope in g[n, k].flatten().tolist():
                first, second, third = y * slope, y * slope**2, y * slope**3
                weight += second / (2 * second + mass * third) * max(first, 0.0)
            wanted[n] += weight / y * a[n, k]
    torch.testing.assert_close(place_map("grad_cam_plus_plus", given), wanted.clamp_min(0))


def test_the_derivatives_of_the_exponential_are_those_of_the_closed_form():
    given = case(placed())
    a = activations(given)[:1].requires_grad_()
    y = given.model[3](given.model[2](a))[0, 0].exp()
    (first,) = torch.autograd.grad(y, a, create_graph=True)
    (second,) = torch.autograd.grad(first[0, 2, 3, 4], a, create_graph=True)
    (third,) = torch.autograd.grad(second[0, 2, 3, 4], a)
    slope = place_weights(given)[0, 2, 3, 4]
    for power, found in enumerate((first, second, third), 1):
        torch.testing.assert_close(found[0, 2, 3, 4].detach(), y.detach() * slope**power)


def test_grad_cam_plus_plus_of_a_channel_without_gradient_is_0():
    model = placed()
    model[-1].weight[:] = 0
    assert (run("grad_cam_plus_plus", case(model)) == 0).all()


def test_grad_cam_plus_plus_is_finite_where_its_denominator_vanishes():
    model = pooled()
    model[1] = nn.Identity()  # the activations may be negative
    model[0].weight[:], model[0].bias[:] = 0, -2.0
    model[-1].weight[:] = 1.0  # g = 1 / places, sum A = -2 places
    assert (run("grad_cam_plus_plus", case(model)) == 0).all()


def test_norm_grad_is_the_norm_of_what_each_place_adds_to_the_weights_of_a_virtual_identity():
    given = case(placed())
    a, g = activations(given), place_weights(given)
    added = torch.einsum("nkij,nlij->nijkl", g, a)
    torch.testing.assert_close(place_map("norm_grad", given), added.flatten(3).norm(dim=3))
    identity = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False).double()
    identity.weight.data = torch.eye(CHANNELS, dtype=torch.float64)[:, :, None, None]
    outputs = nn.Sequential(*given.model[:2], identity, *given.model[2:])(given.x)
    chosen = outputs.gather(1, given.target[:, None]).sum()
    (whole,) = torch.autograd.grad(chosen, identity.weight)
    torch.testing.assert_close(added.sum((0, 1, 2)), whole[:, :, 0, 0])


# ---- against captum -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "number"), [(4, -1), (3, -2), (1, -3), (0, -4)])
@pytest.mark.parametrize("relu", [False, True])
def test_grad_cam_is_captums_upsampled(layer, number, relu):
    given = case(deep())
    theirs = LayerGradCam(given.model, given.model[layer])
    wanted = theirs.attribute(given.x, given.target, relu_attributions=relu)
    wanted = functional.interpolate(wanted, SIZE, mode="bilinear")[:, 0].detach()
    found = place_map("grad_cam", given, layer=number, relu=relu)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize(("layer", "number"), [(4, -1), (1, -3)])
def test_guided_grad_cam_is_captums(layer, number):
    given = case(deep())
    theirs = GuidedGradCam(given.model, given.model[layer])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = theirs.attribute(given.x, given.target, interpolate_mode="bilinear")
    found = run("guided_grad_cam", given, layer=number)
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-6, atol=1e-9)
    assert (found < 0).any()
    assert (found > 0).any()


def test_guided_grad_cam_says_what_it_is_without_a_relu():
    given = case(deep(nn.GELU))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = explainer(setting(METHODS["guided_grad_cam"], {}))(given)
    assert [str(w.message) for w in caught] == ["is the gradient times Grad-CAM: the network has no ReLU"]
    x = given.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(given.output(x).sum(), x)
    torch.testing.assert_close(found, slope * place_map("grad_cam", given)[:, None])


# ---- which layer ----------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.bent = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.last = last

    def forward(self, x):
        return self.last(x + self.bent(x))


class Dense(nn.Module):
    """What is learned is put beside what was there, as in DenseNet and GoogLeNet."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()) for _ in range(2))

    def forward(self, x):
        return torch.cat([x, self.first(x), self.second(x)], 1)


def headed(*body, channels):
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    return set_at_random(nn.Sequential(*body, *head))


def plain_output(model, x, upto):
    for layer in model[:upto]:
        x = layer(x)
    return x


@pytest.mark.parametrize(
    ("body", "channels", "count"),
    [
        ([Residual(nn.Identity())], 3, 3),  # convolution, ReLU, sum
        ([Residual(nn.ReLU())], 3, 3),  # convolution, ReLU, ReLU of the sum
        ([Dense()], 7, 5),
        ([Dense(), nn.BatchNorm2d(7), nn.ReLU()], 7, 7),
        ([Dense(), nn.Identity(), nn.Dropout(0.5), nn.Dropout2d(0.5)], 7, 5),
        ([nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))], 4, 1),
        ([nn.Conv2d(3, 4, SIZE), nn.ReLU()], 4, 0),  # of one place
    ],
)
def test_the_last_layer_is_what_the_pooling_gets(body, channels, count):
    model = headed(*body, channels=channels)
    x = draw(2, 3, *SIZE)
    outputs, layers = activations_of(model, x.clone())
    torch.testing.assert_close(outputs, model(x.clone()))
    assert len(layers) == count
    if count:
        torch.testing.assert_close(layers[-1], plain_output(model, x.clone(), len(body)))


@pytest.mark.parametrize(
    "pooling", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.LPPool2d(2, 2), nn.AdaptiveMaxPool2d(2)]
)
def test_pooling_is_no_layer_nor_is_what_ends_in_it(pooling):
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), pooling)
    model = headed(stem, nn.Dropout(0.1), channels=4)
    _, layers = activations_of(model, draw(2, 3, *SIZE))
    assert [tuple(a.shape[2:]) for a in layers] == [SIZE, SIZE]


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights, self.last = nn.Softmax(dim=-1), nn.Linear(SIZE[0], CLASSES)

    def forward(self, x):
        weights = self.weights(x @ x.transpose(-1, -2))
        return self.last(weights.mean((1, 2)))


def test_weights_of_attention_are_no_layer():
    with pytest.raises(NotApplicable, match="has 0 layers laid out as pictures, and none is number -1"):
        run("grad_cam", case(set_at_random(Attending())))


@pytest.mark.parametrize("layer", [-5, 4])
def test_a_layer_that_is_not_there_is_not_served(layer):
    with pytest.raises(NotApplicable, match=f"has 4 layers laid out as pictures, and none is number {layer}"):
        run("layer_cam", case(deep()), layer=layer)


class Aside(nn.Module):
    """A layer that leads nowhere comes last."""

    def __init__(self):
        super().__init__()
        self.used, self.aside = pooled(), nn.Conv2d(3, 3, 1).double()

    def forward(self, x):
        outputs = self.used(x)
        self.aside(x)
        return outputs


def test_a_layer_that_leads_nowhere_is_not_served():
    given = case(Aside().eval().requires_grad_(False))
    with pytest.raises(NotApplicable, match="on which the output does not depend"):
        run("grad_cam", given)
    assert (run("grad_cam", given, layer=-2) > 0).any()


@pytest.mark.parametrize("name", [*LAYERED, "edge_detector"])
@pytest.mark.parametrize("shape", [(5,), (2, 40)])
def test_tables_and_sound_are_not_served(name, shape):
    model = set_at_random(nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[-1], CLASSES)))
    with pytest.raises(NotApplicable, match=r"takes pictures, \[channels, height, width\], and gets"):
        run(name, case(model, shape))


# ---- how they are run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERED)
def test_blocks_of_rows_get_the_same_maps_and_nothing_is_left_behind(name, monkeypatch):
    given = case(deep())
    whole = run(name, given)
    monkeypatch.setattr(perturb, "MEMORY", 1)  # one row at a time
    before = traces(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        alone = METHODS[name].function(given)
    torch.testing.assert_close(alone.double(), whole)
    assert not alone.requires_grad
    assert traces(given) == before


@pytest.mark.parametrize("name", MAPS)
def test_they_take_one_pass_there_and_back(name):
    given = case(deep())
    with counted(given.model) as rows, torch.no_grad():
        METHODS[name].function(given)
    assert (rows.forward, rows.backward) == (ROWS, ROWS)


def test_a_failing_model_keeps_no_hooks():
    model = deep()
    with pytest.raises(RuntimeError):
        activations_of(model, draw(2, 4, *SIZE))
    assert not any(m._forward_hooks for m in model.modules())


def test_upsampling_is_bilinear_between_the_middles_of_the_places():
    """Of one row of two places over eight: flat to the middles of the two, straight between."""
    model = headed(nn.Conv2d(3, 2, (6, 4), stride=(6, 4)), channels=2)
    given = case(model)
    maps = layer_maps(given, -1, lambda a, _: torch.tensor([[[0.0, 4.0]]]).double().expand(len(a), 1, 2))
    wanted = torch.tensor([0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]).double()
    torch.testing.assert_close(maps, wanted.expand(ROWS, *SIZE))
    torch.testing.assert_close(over_channels(given, maps), maps[:, None].expand_as(given.x) / 3)


# ---- the control ----------------------------------------------------------------------------------------


def test_the_edge_detector_of_a_slope_is_its_steepness():
    """Each channel a plane: Sobel's filters measure its slope exactly, away from the border."""
    row, column = torch.arange(6.0).double()[:, None], torch.arange(8.0).double()
    planes = torch.stack([3 * row + 4 * column, 5 * row + 0 * column, 0 * row - 12 * column])
    found = place_map("edge_detector", case(Silent(), x=planes.expand(ROWS, 3, 6, 8).clone()))
    torch.testing.assert_close(found[:, 1:-1, 1:-1], torch.full((ROWS, 4, 6), (5 + 5 + 12) / 3).double())


def test_the_edge_detector_of_a_flat_picture_is_0_up_to_its_frame():
    assert (run("edge_detector", case(Silent(), x=torch.full((ROWS, 3, *SIZE), 0.7).double())) == 0).all()


def test_the_edge_detector_of_a_step_is_half_of_it_on_either_side():
    x = torch.zeros(ROWS, 3, *SIZE, dtype=torch.float64)
    x[..., 5:] = 2
    wanted = torch.tensor([0, 0, 0, 0, 1.0, 1.0, 0, 0]).double().expand(ROWS, *SIZE)
    torch.testing.assert_close(place_map("edge_detector", case(Silent(), x=x)), wanted)
    turned = dataclasses.replace(case(Silent(), (3, 8, 6)), x=x.transpose(2, 3).contiguous())
    torch.testing.assert_close(place_map("edge_detector", turned), wanted.transpose(1, 2))


class Silent(nn.Module):
    """A model that must not be asked."""

    def forward(self, x):
        raise AssertionError
