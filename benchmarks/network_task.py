"""Small models for the checks of methods: five features, one of them unused, two of them twins; pictures."""

import dataclasses
import functools

import torch
from torch import Generator, Tensor, nn

from .plugin import Case
from .transformer import Block, Patches, Readout, Tokens
from .trees import TreeEnsemble

FEATURES, HIDDEN, ROWS = 5, 16, 6
PICTURE = (3, 8, 8)
DUMMY = 4  # the model does not use it
TWINS = (0, 1)  # the model and every row treat them alike


def network_case(outputs: int, needs: tuple[str, ...] = (), seed: int = 0) -> Case:
    """Six rows of a random model that has what is needed: a network, a linear model, or trees."""
    rng = Generator().manual_seed(17)
    rows = torch.randn(ROWS + 20, FEATURES, generator=rng)
    rows[:, TWINS[1]] = rows[:, TWINS[0]]
    x, background = rows[:ROWS], rows[ROWS:]
    baseline = torch.tensor([0.3, 0.3, -0.2, 0.1, 0.5])
    if "trees" in needs:
        model: nn.Module = _trees(outputs)
    else:
        model = _linear(outputs, seed) if "linear" in needs else _network(outputs, seed)
    target = torch.arange(ROWS) % outputs
    return Case(
        model=model,
        x=x,
        target=target,
        baseline=baseline,
        background=background,
        groups=None,
        rng=Generator().manual_seed(0),
    )


def _weights(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def _first(outputs: int, seed: int) -> nn.Linear:
    layer = nn.Linear(FEATURES, outputs)
    weight = _weights(outputs, FEATURES, seed=seed)
    weight[:, DUMMY], weight[:, TWINS[1]] = 0, weight[:, TWINS[0]]
    layer.load_state_dict({"weight": weight, "bias": _weights(outputs, seed=seed + 1)})
    return layer


def _linear(outputs: int, seed: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), _first(outputs, seed)).eval().requires_grad_(False)


def _network(outputs: int, seed: int) -> nn.Module:
    middle, last = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, outputs)
    for i, layer in enumerate((middle, last)):
        layer.load_state_dict(
            {
                "weight": 0.4 * _weights(*layer.weight.shape, seed=100 * seed + 2 * i),
                "bias": 0.4 * _weights(*layer.bias.shape, seed=100 * seed + 2 * i + 1),
            }
        )
    layers = (nn.Flatten(), _first(HIDDEN, 100 * seed), nn.GELU(), middle, nn.GELU(), last)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@functools.cache
def _fitted(outputs: int) -> TreeEnsemble:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    x = _weights(400, FEATURES, seed=3).numpy()
    signal = x[:, 0] * x[:, 1] + x[:, 2] + x[:, 3] ** 2
    kind = HistGradientBoostingRegressor if outputs == 1 else HistGradientBoostingClassifier
    y = signal if outputs == 1 else (signal > 0).astype(int) + (signal > 2)
    x[:, DUMMY] = 0.0
    fitted = kind(max_iter=20, max_leaf_nodes=8, early_stopping=False, random_state=0).fit(x, y)
    return TreeEnsemble(fitted, "regression" if outputs == 1 else "classification")


def _trees(outputs: int) -> nn.Module:
    return _fitted(outputs).eval()


def picture_case(outputs: int) -> Case:
    """Six small pictures and a random network of convolutions, for methods that need places."""
    rng = Generator().manual_seed(19)
    rows = torch.randn(ROWS + 20, *PICTURE, generator=rng)
    first, second = nn.Conv2d(PICTURE[0], 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
    last = nn.Linear(8 * 4, outputs)
    weighted: tuple[nn.Conv2d | nn.Linear, ...] = (first, second, last)
    for i, layer in enumerate(weighted):
        state = {"weight": 0.4 * _weights(*layer.weight.shape, seed=7 + 2 * i)}
        layer.load_state_dict(state | {"bias": 0.4 * _weights(len(layer.weight), seed=8 + 2 * i)})
    pooled = (nn.AvgPool2d(4), nn.Flatten(), last)
    return _of_pictures(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *pooled), rows, outputs)


def attention_case(outputs: int) -> Case:
    """The same pictures and a random transformer, for methods that read attention."""
    rows = torch.randn(ROWS + 20, *PICTURE, generator=Generator().manual_seed(19))
    blocks = [Block(8, 2), Block(8, 2)]
    embedded = (Patches(PICTURE[0], 8, 2), Tokens((4, 4), 8, class_token=True))
    model = nn.Sequential(*embedded, *blocks, Readout(class_token=True), nn.Linear(8, outputs))
    drawn = {key: 0.4 * _weights(*v.shape, seed=i) for i, (key, v) in enumerate(model.state_dict().items())}
    model.load_state_dict(drawn)
    return _of_pictures(model, rows, outputs)


def _of_pictures(model: nn.Module, rows: Tensor, outputs: int) -> Case:
    return Case(
        model=model.eval().requires_grad_(False),
        x=rows[:ROWS],
        target=torch.arange(ROWS) % outputs,
        baseline=torch.full(PICTURE, 0.1),
        background=rows[ROWS:],
        groups=None,
        rng=Generator().manual_seed(0),
    )


def permuted(case: Case) -> tuple[Case, Tensor]:
    """The case with its columns, and what the first layer knows of them, in another order."""
    order = torch.tensor([3, 0, 4, 1, 2])
    layers = [layer for layer in case.model if not isinstance(layer, nn.Flatten)]  # type: ignore[attr-defined]
    first = nn.Linear(FEATURES, layers[0].out_features)
    first.load_state_dict({"weight": layers[0].weight[:, order], "bias": layers[0].bias})
    model = nn.Sequential(nn.Flatten(), first, *layers[1:]).eval().requires_grad_(False)
    moved = dataclasses.replace(
        case,
        model=model,
        x=case.x[:, order],
        baseline=case.baseline[order],
        background=case.background[:, order],
    )
    return moved, order


def shaped(case: Case) -> Case:
    """The case with its features in a shape of two axes; its models begin with flattening them."""
    return dataclasses.replace(
        case, x=case.x[:, None], baseline=case.baseline[None], background=case.background[:, None]
    )


def in_units(case: Case) -> Case:
    """The case with its features in three units, whose labels leave gaps; the dummy is one of its own."""
    return dataclasses.replace(case, groups=torch.tensor([7, 7, 2, 2, 9]))
