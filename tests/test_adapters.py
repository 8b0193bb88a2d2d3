"""One line makes a method: captum's classes, shap's, and any function of model, x and target."""

import dataclasses
import subprocess
import sys

import captum.attr
import pytest
import shap
import torch

from assay.benchmarks import adapters, checks
from assay.benchmarks.explaining import explainer
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.network_task import network_case
from assay.benchmarks.plugin import METHODS
from assay.benchmarks.registry import AssayError, DuplicatePluginError, load_file
from assay.benchmarks.spec import setting
from assay.benchmarks.terms import Estimand, words

torch.set_num_threads(1)
load_plugins()
NETWORK = ("gradient", "layers")


def slope(model, x, target):
    x.requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]


@pytest.fixture(scope="module", autouse=True)
def _made():
    adapters.from_captum(
        captum.attr.InputXGradient, name="one_ixg", needs="gradient", estimand="gradient_x_input"
    )
    adapters.from_captum(
        captum.attr.ShapleyValueSampling, name="one_sampling", estimand="shapley", promises="complete"
    )
    adapters.from_captum(
        lambda model: captum.attr.NoiseTunnel(captum.attr.Saliency(model)),
        name="one_tunnel",
        needs="gradient",
        arguments={"nt_samples": 4, "abs": False},
    )
    adapters.from_captum(captum.attr.DeepLiftShap, name="one_deep_lift_shap", needs=NETWORK, value="marginal")
    adapters.from_shap(
        shap.SamplingExplainer, name="one_shap", estimand="shapley", arguments={"nsamples": 100}
    )
    adapters.from_shap(shap.KernelExplainer, name="one_kernel", estimand="shapley", value="marginal")
    adapters.from_shap(shap.GradientExplainer, name="one_gradient", needs="gradient", value="marginal")
    adapters.from_shap(
        shap.DeepExplainer, name="one_deep", needs=NETWORK, arguments={"check_additivity": False}
    )
    adapters.from_function(
        slope, name="one_slope", needs="gradient", estimand="gradient", paper="https://a.org"
    )
    yield
    ours = (__name__, "assay_file_")
    for name in [n for n, p in METHODS._plugins.items() if p.function.__module__.startswith(ours)]:
        del METHODS._plugins[name]


MADE = [
    "one_ixg",
    "one_sampling",
    "one_tunnel",
    "one_deep_lift_shap",
    "one_shap",
    "one_kernel",
    "one_gradient",
]
MADE += ["one_deep", "one_slope"]


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize("name", MADE)
def test_what_is_made_satisfies_the_checks(name):
    wrong = {check: why for check, why in checks.failures(METHODS[name]) if why}
    assert not wrong


PEERS = {"one_ixg": "input_x_gradient", "one_slope": "gradient", "one_kernel": "kernel_shap[value=marginal]"}


@pytest.mark.parametrize("name", PEERS)
def test_it_computes_what_the_class_computes(name):
    case = network_case(3)
    peer, _, value = PEERS[name].partition("[value=")
    given = {"value": value.removesuffix("]")} if value else {}
    wanted = explainer(setting(METHODS[peer], given))(case)
    torch.testing.assert_close(explainer(setting(METHODS[name], {}))(case), wanted, rtol=1e-4, atol=1e-5)


def test_a_unit_s_value_is_shared_among_its_features():
    case = dataclasses.replace(network_case(3), groups=torch.tensor([4, 4, 7, 7, 9]))
    wanted = explainer(setting(METHODS["exact_shapley"], {}))(case)
    for name in ("one_sampling", "one_shap"):
        found = explainer(setting(METHODS[name], {}))(case)
        torch.testing.assert_close(found[:, 0], found[:, 1])
        torch.testing.assert_close(found.sum(1), wanted.sum(1), rtol=1e-3, atol=1e-4)
        assert (found - wanted).norm() / wanted.norm() < 0.15


def test_a_name_must_be_one_and_be_free():
    with pytest.raises(AssayError, match="'not a name' cannot be a method's name"):
        adapters.from_function(slope, name="not a name", paper="https://a.org")
    with pytest.raises(DuplicatePluginError, match="'gradient' is defined twice"):
        adapters.from_function(slope, name="gradient", paper="https://a.org")


def test_the_version_is_that_of_the_caller_s_file(tmp_path):
    text = (
        "import captum.attr\nfrom assay.benchmarks.adapters import from_captum\n"
        "from_captum(captum.attr.Saliency, name='{}', needs='gradient', signed=False)\n"
    )
    versions = []
    for name in ("file_one", "file_two"):
        file = tmp_path / f"{name}.py"
        file.write_text(text.format(name))
        module = load_file(file)
        assert METHODS.defined_in(module.__name__) == [name]
        versions.append(METHODS[name].version)
    assert versions[0] != versions[1]


def test_one_line_in_a_file_is_a_ranked_row(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import shap\nfrom assay.benchmarks.adapters import from_shap\n"
        "from_shap(shap.SamplingExplainer, name='sampled', estimand='shapley', arguments={'nsamples': 50})\n"
    )
    words = [
        "run",
        "smoke",
        "--plugin",
        str(file),
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--dataset", "symbolic[function=7,columns=5,rows=1000,explained=5]", "--model", "oracle"]
    command = [sys.executable, "-P", "-m", "assay.benchmarks.cli", *words, "--metric", "attribution_error"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    row = next(line for line in found.stdout.splitlines() if " sampled " in line)
    assert row.split()[0].isdigit()
    assert "it/s" not in found.stderr  # no progress bar of shap's


def test_what_is_averaged_over_the_background_is_so_by_every_class_of_captum_s():
    """As many rows as background rows: captum would pair them."""
    case = network_case(1)
    case = dataclasses.replace(case, background=case.background[: len(case.x)])
    peers = {captum.attr.IntegratedGradients: None, captum.attr.FeatureAblation: "feature_ablation"}
    for kind, peer in peers.items():
        function = adapters.from_captum(kind, name=f"over_{kind.__name__}", value="marginal")
        found = function(case)
        turned = function(dataclasses.replace(case, background=case.background.flip(0)))
        torch.testing.assert_close(found, turned, rtol=1e-4, atol=1e-6)
        if peer:
            wanted = explainer(setting(METHODS[peer], {"value": "marginal"}))(case)
            torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)


def test_what_captum_lacks_is_said():
    function = adapters.from_captum(captum.attr.Occlusion, name="occluded")
    with pytest.raises(ValueError, match=r"Occlusion.attribute needs sliding_window_shapes; give arguments"):
        function(network_case(1))


def test_an_explainer_of_shap_s_that_is_called_is_wrapped_too():
    function = adapters.from_shap(shap.ExactExplainer, name="called")
    wanted = explainer(setting(METHODS["exact_shapley"], {}))(network_case(3))
    torch.testing.assert_close(function(network_case(3)).double(), wanted, rtol=1e-4, atol=1e-5)


def test_an_explainer_of_fitted_models_is_refused():
    with pytest.raises(AssayError, match="needs 'trees'; use tree_shap or linear_shap"):
        adapters.from_shap(shap.TreeExplainer, name="wood", needs="trees")


@pytest.mark.parametrize("word", ["shapely", "none "])
def test_a_misspelt_word_is_told_at_once(word):
    with pytest.raises(AssayError, match=f"estimand cannot be '{word}'"):
        words("estimand", word, Estimand)
    assert words("estimand", "shapley", Estimand) == ("shapley",)
