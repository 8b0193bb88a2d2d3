"""Tetrominoes in noise: pictures whose optimal classifier is known, and may look beside the pattern."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal, TypeAlias

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.stats import f as ratio_law
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ..benchmarks.backdrops import photographs
from ..benchmarks.plugin import Outputs, Problem, Samples, dataset
from ..benchmarks.problem import square_units
from ..benchmarks.registry import AssayError

Scenario: TypeAlias = Literal["linear", "multiplicative", "translations_rotations", "xor"]
Pictures: TypeAlias = Float[Tensor, "n side side"]
BACKGROUND: Final = 100  # rows
PIECES: Final = (((1, 0), (1, 1), (1, 0)), ((1, 0), (1, 0), (1, 1)))  # T, L
CORNERS: Final = ((1, 1), (4, 5))  # where they lie, in eighths of the picture
SOFT: Final = 1.5  # pixels: standard deviation of the blur of pieces of 64 x 64 pictures
NOTABLE: Final = 0.01  # of the largest optimal weight: smaller ones count as none
CUT: Final = 32  # pixels of a photograph, at least: smaller cuts are often of one grey
LUMINANCE: Final = (0.299, 0.587, 0.114)


@dataset(version=1, paper="https://arxiv.org/abs/2306.12816", noise=("background", "alpha"))
def tetromino(
    rng: torch.Generator,
    /,
    *,
    scenario: Scenario = "linear",
    background: Literal["white", "correlated", "textured"] = "white",
    alpha: Annotated[float, Gt(0), Lt(1)] = 0.18,
    side: Literal[8, 64] = 8,
    smoothing: Annotated[float, Gt(0), Le(64)] = 3.0,
    grain: Annotated[float, Ge(1e-6), Le(1)] = 0.01,
    rows: Annotated[int, Ge(50), Le(100_000)] = 10_000,
    explained: Annotated[int, Ge(1), Le(10_000)] = 100,
) -> Problem:
    """Which of two tetrominoes, T or L, is in a noisy grey picture; half of the rows each (XAI-TRIS).

    x = c (alpha s + (1 - alpha) b): pattern s and background b each have mean square norm 1 a picture, and c
    makes the largest |x| of all rows 1.  Multiplicative: x = c (1 - alpha s) b, with the pattern between 0
    and 1.  T lies top left, L bottom right (linear, multiplicative); either lies anywhere, turned by quarters
    (translations_rotations); both are there and their signs are equal (class 0) or differ (xor).  Pieces of
    64 x 64 pictures are blurred.  Features are [1, side, side]; the units of 64 x 64 ones are 8 x 8 pixels.
    80% of the rows train, 10% validate, 10% test.

    `masks["relevant"]` is where either piece may be: a piece tells by its absence too; of
    translations_rotations, the pixels of the row's own piece.  `masks["foreground"]` is the row's own piece.
    The oracle is the exact log-odds where it looks at no other pixel: on a white background unless the piece
    moves; its two outputs are -/+ half of them.  On the correlated background the optimal weights
    Sigma^-1 (mu_1 - mu_0) of the linear scenario reach beyond the pieces: `masks["suppressor"]` has those
    above 1% of the largest, pixels that tell nothing of the class but help to take away the noise.  A method
    that names them is right about the model and wrong about the world, so that there is no oracle there.

    `facts`: the measured SNR in dB (of what the pattern changes over the background alone); the accuracy of
    the optimal classifier in closed form where it has one (`bayes_accuracy`): Phi(Mahalanobis distance / 2)
    where linear; on white, also of xor, and of multiplicative at side 8.

    Args:
        rng: source of all random numbers.
        scenario: how the pattern depends on the class.
        background: white noise; smooth noise; or grey cuts of photographs of mean 0, as the paper's ImageNet.
        alpha: the weight of the pattern.  The paper's at side 8, white and correlated: linear 0.18, 0.0125;
            multiplicative 0.7, 0.1; translations_rotations 0.65, 0.2; xor 0.35, 0.15.
        side: height and width in pixels.
        smoothing: standard deviation in pixels of the blur that makes white noise correlated; the paper's is
            3 at side 8 and 10 at side 64.
        grain: share of white noise in the power of the correlated one.  The paper has none, but then some
            directions hold no noise at all and the optimal accuracy is 1, which no trained model finds.
        rows: of train, validation and test together.
        explained: test rows that are explained.

    Raises:
        AssayError: there are fewer test rows than are to be explained.
    """
    n_train, n_validation = round(0.8 * rows), round(0.1 * rows)
    first, n_test = n_train + n_validation, rows - n_train - n_validation
    if explained > n_test:
        raise AssayError(
            f"explained = {explained} is more than the {n_test} test rows (10% of rows = {rows}); explain at "
            f"most {n_test} or draw more rows."
        )
    y = torch.arange(rows) % 2
    fixed = None if scenario == "translations_rotations" else _fixed(scenario, side)
    pattern = _moved(y, side, rng) if fixed is None else fixed[y, torch.arange(rows) // 2 % fixed.shape[1]]
    noise = Noise(side, smoothing, grain if background == "correlated" else 1.0)
    behind = _photographed(rows, side, rng) if background == "textured" else noise.draw(rows, rng)
    size = 1.0 if scenario == "multiplicative" else _power(pattern) ** -0.5
    changed = alpha * size * pattern * (-behind if scenario == "multiplicative" else 1)
    rest = behind if scenario == "multiplicative" else (1 - alpha) * behind
    x = changed + rest
    largest = float(x.abs().max())
    x = x[:, None] / largest
    own = (pattern[first : first + explained] != 0)[:, None]
    masks = {
        "relevant": own if fixed is None else (fixed != 0).flatten(0, 1).any(0)[None, None],
        "foreground": own,
    }
    facts: dict[str, float | str] = {"chance": 0.5, "bayes_accuracy": "unknown"}
    facts["snr_db"] = 10 * math.log10(_power(changed) / _power(rest))
    oracle: nn.Module | None = None
    if fixed is not None and background != "textured":
        law = Law(fixed.double(), noise, alpha, size, 1 / largest)
        facts["bayes_accuracy"] = law.accuracy(scenario)
        oracle = law.log_odds(scenario) if background == "white" else None
        if scenario == "linear" and background == "correlated":
            weight = law.weights.diff(dim=0).flatten(0, 1).abs()
            masks["suppressor"] = (weight > NOTABLE * weight.max())[None] & ~masks["relevant"]
    return Problem(
        x=x,
        y=y,
        task="classification",
        n_train=n_train,
        n_validation=n_validation,
        n_explained=explained,
        baseline=torch.zeros(1, side, side),
        background=x[: min(BACKGROUND, n_train)],
        masks=masks,
        oracle=oracle,
        groups=None if side == 8 else square_units(1, side, side, 8),
        facts=facts,
    )


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of mean square norm 1 a picture: white noise blurred, plus `grain` of it that is not."""

    side: int
    smoothing: float
    grain: float  # 1: white noise alone

    @cached_property
    def blur(self) -> Float[Tensor, "side side"]:
        """What the blur does along one axis, so that blurred noise has mean square norm 1."""
        matrix = _blur(self.side, self.smoothing)
        return matrix / matrix.square().sum().sqrt()

    def draw(self, n: int, rng: torch.Generator) -> Pictures:
        """Independent pictures."""
        out = torch.randn(n, self.side, self.side, generator=rng).mul_(math.sqrt(self.grain) / self.side)
        if self.grain < 1:
            white = torch.randn(n, self.side, self.side, generator=rng)
            out += math.sqrt(1 - self.grain) * (self.blur.float() @ white @ self.blur.T.float())
        return out

    def whitened(self, pictures: Float[Tensor, "*any side side"]) -> Float[Tensor, "*any side side"]:
        """Their product with the inverse of the covariance, which the axes share."""
        if self.grain == 1:  # exactly, so that nothing is spread by rounding
            return pictures * self.side**2
        spread, turn = torch.linalg.eigh(self.blur @ self.blur.T)
        variance = (1 - self.grain) * spread[:, None] * spread + self.grain / self.side**2
        return turn @ ((turn.T @ pictures @ turn) / variance) @ turn.T


@dataclass(frozen=True)
class Law:
    """The exact law of x: of each class, an even mixture of Gaussians around its patterns."""

    patterns: Float[Tensor, "2 m side side"]
    noise: Noise
    alpha: float
    size: float  # of the pattern before it is weighted
    scale: float  # of all in the end

    @property
    def means(self) -> Float[Tensor, "2 m side side"]:
        """The mean of each Gaussian."""
        return self.scale * self.alpha * self.size * self.patterns

    @property
    def weights(self) -> Float[Tensor, "2 m side side"]:
        """Sigma^-1 mu of each Gaussian."""
        return self.noise.whitened(self.means) / (self.scale * (1 - self.alpha)) ** 2

    def accuracy(self, scenario: Scenario) -> float | str:
        """Of the optimal classifier, where it is known in closed form."""
        white = self.noise.grain == 1
        if scenario == "linear":
            gap = (self.means.diff(dim=0) * self.weights.diff(dim=0)).sum().sqrt()
            return float(torch.special.ndtr(gap / 2))
        if scenario == "xor" and white:  # right if the signs of both pieces are, or neither
            pieces = (self.means[0, :1] + self.means[1]) / 2  # T, L
            size, noise = pieces.flatten(1).norm(dim=1), self.scale * (1 - self.alpha) / self.noise.side
            right = torch.special.ndtr(size / noise)
            return float(right.prod() + (1 - right).prod())
        if scenario == "multiplicative" and white and self.noise.side == 8:  # four pixels against four
            return float(ratio_law(4, 4).cdf((1 - self.alpha) ** -2))
        return "unknown"

    def log_odds(self, scenario: Scenario) -> nn.Module:
        """Those of class 1; of a multiplicative pattern only where the noise is white."""
        if scenario == "multiplicative":
            deviation = self.scale / self.noise.side * (1 - self.alpha * self.patterns[:, 0])
            return Dimmed(deviation.flatten(1))
        weights, means = self.weights.flatten(2), self.means.flatten(2)
        return Mixed(weights, (weights * means).sum(2) / 2)


class Mixed(nn.Module):
    """-/+ half of the log-odds of two classes, each an even mixture of Gaussians of one covariance."""

    def __init__(self, weights: Float[Tensor, "2 m pixels"], offsets: Float[Tensor, "2 m"]) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("offsets", offsets)

    def forward(self, x: Samples) -> Outputs:  # noqa: D102
        weights, offsets = self.get_buffer("weights").to(x), self.get_buffer("offsets").to(x)
        pairs = zip(weights, offsets, strict=True)
        first, second = ((x.flatten(1) @ w.T - b).logsumexp(1) for w, b in pairs)
        return torch.stack([first - second, second - first], 1) / 2


class Dimmed(nn.Module):
    """The same of independent pixels of mean 0, whose standard deviations depend on the class."""

    def __init__(self, deviations: Float[Tensor, "2 pixels"]) -> None:
        super().__init__()
        self.register_buffer("weight", (deviations[0] ** -2 - deviations[1] ** -2) / 2)
        self.register_buffer("offset", deviations.log().sum(1).diff())

    def forward(self, x: Samples) -> Outputs:  # noqa: D102
        odds = x.flatten(1).square() @ self.get_buffer("weight").to(x) - self.get_buffer("offset").to(x)
        return torch.stack([-odds, odds], 1) / 2


def _power(pictures: Pictures) -> float:
    """The mean squared norm of a picture."""
    return float(pictures.square().sum((1, 2)).mean())


def _blur(side: int, deviation: float) -> Float[Tensor, "side side"]:
    """The matrix that blurs along one axis, reflecting at the borders."""
    return torch.from_numpy(gaussian_filter1d(np.eye(side), deviation, axis=0, mode="reflect"))


def _softened(pictures: Float[Tensor, "*any side side"]) -> Float[Tensor, "*any side side"]:
    """The pieces as they are added: blurred in pictures that are large enough."""
    if pictures.shape[-1] == 8:
        return pictures
    blur = _blur(pictures.shape[-1], SOFT).float()
    return blur @ pictures @ blur.T


def _piece(which: int, scale: int) -> Float[Tensor, "h w"]:
    return torch.tensor(PIECES[which], dtype=torch.float32).kron(torch.ones(scale, scale))


def _fixed(scenario: Scenario, side: int) -> Float[Tensor, "2 m side side"]:
    """The patterns of each class."""
    scale, both = side // 8, torch.zeros(2, side, side)
    for which, (top, left) in enumerate(CORNERS):
        piece = _piece(which, scale)
        down, right = scale * top, scale * left
        both[which, down : down + len(piece), right : right + piece.shape[1]] = piece
    first, second = _softened(both)
    if scenario != "xor":
        return torch.stack([first, second])[:, None]
    same, other = first + second, first - second
    return torch.stack([torch.stack([same, -same]), torch.stack([other, -other])])


def _moved(y: Int[Tensor, " n"], side: int, rng: torch.Generator) -> Pictures:
    """The piece of each row's class, turned and put anywhere inside."""
    out = torch.zeros(len(y), side, side)
    scale = 1 if side == 8 else 4
    turned = [[_piece(which, scale).rot90(turn) for turn in range(4)] for which in range(2)]
    drawn = torch.randint(2**31, (len(y), 3), generator=rng).tolist()
    for picture, which, (turn, down, right) in zip(out, y.tolist(), drawn, strict=True):
        piece = turned[which][turn % 4]
        top, left = down % (side - len(piece) + 1), right % (side - piece.shape[1] + 1)
        picture[top : top + len(piece), left : left + piece.shape[1]] = piece
    return _softened(out)


def _photographed(n: int, side: int, rng: torch.Generator) -> Pictures:
    """Grey cuts of photographs, each of mean 0; their mean square norm is 1."""
    cut = max(side, CUT)
    grey = torch.empty(n, side, side)
    for some in grey.split(500):  # views: large cuts of all rows would not fit
        colour = photographs(len(some), cut, rng)
        some[:] = avg_pool2d(torch.einsum("nchw,c->nhw", colour, torch.tensor(LUMINANCE)), cut // side)
    grey -= grey.mean((1, 2), keepdim=True)
    return grey * _power(grey) ** -0.5
