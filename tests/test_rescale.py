"""DeepLIFT's rules: complete whatever the operations, equal to captum's where captum has them."""

import warnings

import pytest
import torch
from captum.attr import DeepLift
from torch import nn
from torch.nn import functional

from assay.benchmarks import perturb
from assay.benchmarks.explaining import attribute
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.perturb import absent, difference
from assay.benchmarks.plugin import METHODS, MODELS, Case, NotApplicable
from assay.benchmarks.rescale import attributed
from assay.benchmarks.spec import setting, settings

torch.set_num_threads(1)
load_plugins()
ROWS, WIDTH = 6, 7
NETWORK = setting(MODELS["mlp"], {})


class Functional(nn.Module):
    """No activation is a module, some are used twice, one in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(WIDTH, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.norm = nn.LayerNorm(16)

    def forward(self, x):
        h = functional.relu(self.a(x))
        return self.c(functional.gelu(functional.silu(self.b(h)), approximate="tanh").relu_())


class Gates(Functional):
    def forward(self, x):
        h = self.a(x)
        h = torch.sigmoid(h) * torch.tanh(self.b(h))
        return self.c(h) / (1 + h.square().sum(1, keepdim=True)) + 2 / (1 + h[:, :3] ** 2)


class Attention(Functional):
    def forward(self, x):
        q = self.norm(self.a(x)).view(-1, 4, 4)
        weights = (q @ q.transpose(1, 2) * 3).softmax(-1)
        return self.c(
            functional.dropout((weights @ q).flatten(1), 0.5, training=self.training) + q.flatten(1).abs()
        )


class Formula(Functional):
    def forward(self, x):
        a, b, c, d = x[:, :4].unbind(1)
        y = (
            torch.exp(a) * torch.sin(b) / 2
            - torch.cos(d) ** 5 / (4 * (c**2 + 1))
            + torch.log(a**2 + b**2 + 1)
        )
        return torch.stack([y, -y, y * x[:, 4]], 1)


def case(model, baseline=0.3, dtype=torch.float32, rows=ROWS, shape=(WIDTH,)):
    rng = torch.Generator().manual_seed(1)
    for i, parameter in enumerate(model.parameters()):
        parameter.data = 0.8 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    x = torch.randn(rows, *shape, generator=rng)
    x, absent_ = x.to(dtype), torch.full(shape, baseline, dtype=dtype)
    x[0] = absent_  # a row that is the baseline: nothing to explain, nothing to divide by
    x[1, 0] = absent_.flatten()[0]
    return Case(
        model=model.to(dtype).eval(),
        x=x,
        target=torch.arange(rows) % 3,
        baseline=absent_,
        background=torch.randn(9, *shape, generator=rng).to(dtype),
        groups=None,
        rng=rng,
    )


def gap(found, given, value="baseline"):
    wanted = difference(given, value)
    return ((found.flatten(1).sum(1) - wanted).abs().max() / wanted.abs().mean()).item()


@pytest.mark.parametrize("model", [Functional, Gates, Attention, Formula])
@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_functional_activations_products_and_what_is_made_of_them_add_up(model, baseline):
    for dtype, limit in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        given = case(model(), baseline, dtype)
        found = attributed(given, absent(given, "baseline"))
        assert found.isfinite().all()
        assert found.dtype == dtype
        assert gap(found, given) < limit
        assert (found[0] == 0).all()


ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.Tanh)
ACTIVATIONS += (nn.Sigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Softsign, nn.ReLU6, nn.LogSigmoid)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_element_wise_module_adds_up(activation):
    given = case(
        nn.Sequential(nn.Linear(WIDTH, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3))
    )
    assert gap(attributed(given, absent(given, "baseline")), given) < 1e-5


def test_an_activation_in_place_is_as_good():
    class InPlace(Functional):
        def forward(self, x):
            x.tanh_()  # the first operation, on the rows themselves
            h = self.a(x)
            functional.relu(h, inplace=True)
            h = self.b(h)
            h.sigmoid_()
            return self.c(h)

    given = case(InPlace())
    with torch.no_grad():
        wanted = given.model(given.x.clone()) - given.model(given.baselines.clone())
    found = attributed(given, absent(given, "baseline"))
    gap_ = found.sum(1) - wanted.gather(1, given.target[:, None])[:, 0]
    assert gap_.abs().max() < 1e-5 * wanted.abs().mean()
    layers = (nn.Linear(WIDTH, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))
    given = case(nn.Sequential(*layers))
    assert gap(attributed(given, absent(given, "baseline")), given) < 1e-5


def test_a_power_of_each_number_s_own_adds_up():
    class Powers(Functional):
        def forward(self, x):
            h = self.a(x)
            return self.c(torch.pow(h, torch.full_like(h.detach(), 2.0)))

    given = case(Powers())
    given.x[2] = given.baseline
    assert gap(attributed(given, absent(given, "baseline")), given) < 1e-4


def test_rows_that_are_not_on_the_first_axis_are_refused():
    class Turned(Functional):
        def forward(self, x):
            return self.c(torch.tanh(self.a(x).T).T)

    given = case(Turned(), rows=5)
    with pytest.raises(NotApplicable, match="no rule for tanh where rows are not on the first axis"):
        attributed(given, absent(given, "baseline"))


def test_a_convolution_with_norm_in_eval_mode_adds_up():
    layers = [
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    ]
    given = case(nn.Sequential(*layers), shape=(2, 6, 6))
    assert gap(attributed(given, absent(given, "baseline")), given) < 1e-5


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU])
def test_where_captum_has_the_rule_the_values_are_captum_s(activation):
    given = case(
        nn.Sequential(nn.Linear(WIDTH, 16), activation(), nn.Linear(16, 16), activation(), nn.Linear(16, 3))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = given.x.clone().requires_grad_()
        peer = DeepLift(given.model).attribute(x, given.baselines, target=given.target)
    torch.testing.assert_close(attributed(given, absent(given, "baseline")), peer, rtol=1e-4, atol=1e-5)


def test_a_product_shares_the_change_between_its_factors_evenly():
    """Shapley values of two players: what this rule is, by hand."""

    class Product(nn.Module):
        def forward(self, x):
            return (x[:, 0] * x[:, 1])[:, None].expand(-1, 3)

    given = case(Product(), baseline=0.3)
    u, v = given.x[:, 0], given.x[:, 1]
    wanted = torch.zeros_like(given.x)
    wanted[:, 0], wanted[:, 1] = (u - 0.3) * (v + 0.3) / 2, (v - 0.3) * (u + 0.3) / 2
    torch.testing.assert_close(attributed(given, absent(given, "baseline")), wanted)


def test_over_a_background_it_is_the_mean_over_its_rows(monkeypatch):
    given = case(Functional())
    each = [attributed(given, row[None]) for row in given.background]
    wanted = torch.stack(each).mean(0)
    for elements in (1, 100, 10**6):
        monkeypatch.setattr(perturb, "NUMBERS", elements)
        monkeypatch.setattr(perturb, "FEWEST", 1)
        torch.testing.assert_close(attributed(given, given.background), wanted, rtol=1e-4, atol=1e-6)
    assert gap(wanted, given, "marginal") < 1e-4


def test_the_model_is_left_as_it_was():
    given = case(Functional())
    given.model.b.weight.requires_grad_(False)
    attributed(given, absent(given, "baseline"))
    assert [p.requires_grad for p in given.model.b.parameters()] == [False, True]
    assert all(p.grad is None for p in given.model.parameters())
    assert not any(m._forward_hooks for m in given.model.modules())


@pytest.mark.parametrize("name", ["deep_lift", "deep_lift_shap"])
def test_captum_s_rules_break_the_promise_on_functional_activations_and_ours_do_not(name):
    given = case(Functional())
    own, peer = (
        attribute(s, NETWORK, given, "key") for s in settings(METHODS, f"{name}[rule=[rescale,captum]]")
    )
    assert own.completeness_error < 1e-4
    assert own.reason == ""
    assert peer.completeness_error > 0.01
    assert "promise broken: misses" in peer.reason


@pytest.mark.parametrize("name", ["deep_lift", "deep_lift_shap"])
def test_captum_s_rules_are_refused_where_there_are_no_layers(name):
    class Bare(nn.Module):
        def forward(self, x):
            return x[:, :3].tanh()

    found = attribute(settings(METHODS, f"{name}[rule=captum]")[0], NETWORK, case(Bare()), "key")
    assert found.status == "skipped"
    assert found.reason == "captum's rules are of layers, and this model has none"
