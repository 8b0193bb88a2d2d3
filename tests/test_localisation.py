"""Metrics that hold a map against a mask of relevant features, and those of the map alone."""

import math
from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment, linprog
from scipy.stats import wasserstein_distance_nd
from sklearn.metrics import average_precision_score, roc_auc_score

from assay import metrics
from assay.benchmarks.perturb import empty_output
from assay.benchmarks.plugin import METRICS, Case, Evidence, NotApplicable, Problem
from assay.benchmarks.spec import settings
from assay.benchmarks.yardstick import Aim, Yardstick

torch.set_num_threads(1)
METRICS.discover(metrics)
FLAT = ("pointing_game", "top_iou")
PLANE = ("box_iou", "earth_mover")
ALONE = ("sparseness", "complexity", "effective_complexity")
OLD = ("uscore", "functional_precision", "global_precision", "attribution_mass", "auroc", "average_precision")
OLD += ("attribution_error", "completeness")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Linear(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight.flatten()

    def forward(self, x):
        return (x.flatten(1) @ self.weight)[:, None]


def evidence(a, relevant=None, weight=None, x=None):
    """The map `a` on a linear model, whose exact attribution is the truth; the baseline is 0."""
    a = torch.as_tensor(a, dtype=torch.float64)
    relevant = torch.arange(a[0].numel()).view(1, *a.shape[1:]) < 3 if relevant is None else relevant
    relevant = torch.as_tensor(relevant)
    x = draw(*a.shape, seed=12) if x is None else x
    weight = draw(*a.shape[1:], seed=11) if weight is None else weight
    case = Case(
        model=Linear(weight),
        x=x,
        target=torch.zeros(len(a), dtype=torch.int64),
        baseline=torch.zeros_like(x[0]),
        background=x[:1],
        groups=None,
        rng=generator(),
    )
    made = {"empty": empty_output(case), "explain": lambda _: a, "rng": generator(), "other": None}
    return Evidence(case=case, attribution=a, masks={"relevant": relevant}, truth=weight * x, **made)


def score(metric, a, relevant=None, **parameters):
    return METRICS[metric].function(evidence(a, relevant), **parameters)


def one(metric, a, relevant=None, **parameters):
    return score(metric, [a], None if relevant is None else [relevant], **parameters).item()


# ---- the twins: one row in, one number out --------------------------------------------------------------


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def tops(row, k):
    """Every top k of |row|, each as likely as any other."""
    sure = {i for i, v in enumerate(row) if sum(abs(w) >= abs(v) for w in row) <= k}
    limit = sorted(map(abs, row), reverse=True)[k - 1] if k else 0
    some = [i for i, v in enumerate(row) if abs(v) == limit and i not in sure]
    return [sure | {*rest} for rest in combinations(some, k - len(sure))]


def pointing_game(row, mask):
    largest = [i for i, v in enumerate(row) if abs(v) == max(map(abs, row))]
    return mean(mask[i] for i in largest) if any(mask) else math.nan


def top_iou(row, mask):
    inside = {i for i, m in enumerate(mask) if m}
    return mean(len(t & inside) / len(t | inside) for t in tops(row, len(inside))) if inside else math.nan


def sparseness(row, mask):
    """Mean difference of two features over twice their mean size, over that of a map of one feature."""
    size, d = [abs(v) for v in row], len(row)
    if d == 1:
        return 1.0
    apart = sum(abs(p - q) for p in size for q in size)
    return apart / (2 * d * sum(size)) / (1 - 1 / d) if any(size) else 0.0


def complexity(row, mask):
    size = [abs(v) for v in row] if any(row) else [1.0] * len(row)
    shares = [v / sum(size) for v in size if v]
    return -sum(p * math.log(p, len(row)) for p in shares) if len(row) > 1 else 0.0


def effective_complexity(row, mask, eps=0.01):
    largest = max(map(abs, row))
    return mean(abs(v) / largest > eps for v in row) if largest else 1.0


def maps(width):
    """Random maps, maps with ties of size and of sign, a zero map and constant ones."""
    ties = torch.randint(-2, 3, (6, width), generator=generator(1)).double()
    rest = torch.tensor([[0.0], [1.0], [-0.3]], dtype=torch.float64).expand(3, width)
    return torch.cat([draw(3, width, seed=2), ties, rest])


TWINS = [(twin, {}) for twin in (pointing_game, top_iou, sparseness, complexity, effective_complexity)]
TWINS += [(effective_complexity, {"eps": eps}) for eps in (0.0, 0.6)]


@pytest.mark.parametrize(("twin", "parameters"), TWINS)
@pytest.mark.parametrize("width", [1, 2, 5, 9])
def test_a_metric_equals_its_twin(twin, parameters, width):
    a = maps(width)
    mask = torch.rand(a.shape, generator=generator(3)) < 0.5
    mask[0], mask[5] = False, True
    got = score(twin.__name__, a, mask, **parameters)
    assert got.dtype == torch.float64
    want = [twin(*row, **parameters) for row in zip(a.tolist(), mask.tolist(), strict=True)]
    assert got.tolist() == pytest.approx(want, abs=1e-9, nan_ok=True)


def box(places):
    """The set of all places from the first to the last, in both axes."""
    (top, left), (bottom, right) = (tuple(f(axis) for axis in zip(*places, strict=True)) for f in (min, max))
    return {*product(range(top, bottom + 1), range(left, right + 1))}


def box_iou(row, mask):
    """Of maps [channels][height][width]; the mean over all breakings of ties."""
    grid = [*product(range(len(row[0])), range(len(row[0][0])))]
    size = [sum(abs(channel[y][x]) for channel in row) for y, x in grid]
    inside = [place for place in grid if any(channel[place[0]][place[1]] for channel in mask)]
    if not inside:
        return math.nan
    boxes = (box([grid[i] for i in t]) for t in tops(size, len(inside)))
    return mean(len(b & box(inside)) / len(b | box(inside)) for b in boxes)


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (6, 1), (3, 4, 3), (1, 2, 3), (2, 2, 2, 3)])
def test_box_iou_equals_its_twin(shape):
    a, mask = draw(12, *shape), torch.rand(12, *shape, generator=generator(1)) < 0.15
    mask[0], mask[1] = False, True
    rows = zip(*(v.reshape(12, -1, *shape[-2:]).tolist() for v in (a, mask)), strict=True)
    want = [box_iou(*row) for row in rows]
    assert score("box_iou", a, mask).tolist() == pytest.approx(want, nan_ok=True)


def behind(coordinates, share, length):
    """The farthest point with no more than this share of the places, one wide each, before it."""
    low, high = 0.0, float(length)
    for _ in range(80):
        middle = (low + high) / 2
        before = sum(min(max(middle - c, 0.0), 1.0) for c in coordinates)
        low, high = (middle, high) if before <= share * len(coordinates) + 1e-12 else (low, middle)
    return low


def trimmed(places, trim, shape):
    """First and last point of the box, axis by axis."""
    ends = []
    for axis, length in enumerate(shape):
        along = [place[axis] for place in places]
        first = behind(along, trim, length)
        last = length - behind([length - 1 - c for c in along], trim, length)
        more = (last - first) * trim / (1 - 2 * trim)
        ends.append((first - more, last + more))
    return ends


def blurred(size, sigma):
    """A map [height][width], every place the mean of those around it, mirrored at the edges."""
    reach = int(4 * sigma + 0.5)
    weight = {d: math.exp(-d * d / 2 / sigma**2) for d in range(-reach, reach + 1)}

    def at(y, x):
        y, x = (
            i % (2 * n) if i % (2 * n) < n else 2 * n - 1 - i % (2 * n)
            for i, n in ((y, len(size)), (x, len(size[0])))
        )
        return size[y][x]

    total = sum(weight.values()) ** 2
    around = [*product(weight, weight)]
    return [
        [
            sum(weight[d] * weight[e] * at(y + d, x + e) for d, e in around) / total
            for x in range(len(size[0]))
        ]
        for y in range(len(size))
    ]


@pytest.mark.parametrize("shape", [(4, 5), (1, 6), (9, 7)])
@pytest.mark.parametrize("trim", [0.0, 0.05, 0.2, 0.45])
@pytest.mark.parametrize("sigma", [0.0, 0.8])
def test_trimmed_and_blurred_box_iou_equals_its_twin(shape, trim, sigma):
    a, mask = draw(6, *shape), torch.rand(6, *shape, generator=generator(1)) < 0.3
    mask[:, 0, 0] = True
    grid, wanted = [*product(*map(range, shape))], []
    for row, inside in zip(a.abs().tolist(), mask, strict=True):
        size = blurred(row, sigma) if sigma else row
        top = sorted(grid, key=lambda place: -size[place[0]][place[1]])[: int(inside.sum())]
        boxes = [trimmed(p, trim, shape) for p in (top, [g for g in grid if inside[g]])]
        areas = [math.prod(last - first for first, last in b) for b in boxes]
        both = math.prod(max(min(b[1], c[1]) - max(b[0], c[0]), 0) for b, c in zip(*boxes, strict=True))
        wanted.append(both / (sum(areas) - both))
    assert score("box_iou", a, mask, trim=trim, sigma=sigma).tolist() == pytest.approx(wanted, abs=1e-9)


def test_box_iou_of_ties_is_drawn_without_preference():
    a, mask = torch.tensor([[3.0, 1.0, 1.0], [1.0, 0.0, 1.0]]), torch.tensor([[1, 1, 0], [0, 1, 0]]) > 0
    want = box_iou([a.tolist()], [mask.tolist()])
    got = one("box_iou", a.tolist(), mask.tolist(), orders=500)
    assert got == pytest.approx(want, abs=0.05)  # five times .23 / sqrt(500), as the boxes score .4 to 1
    rows = score("box_iou", a.expand(500, 2, 3), mask[None])
    assert rows.unique().numel() > 10  # each row has its own draws
    assert rows.mean().item() == pytest.approx(want, abs=0.02)


def earth_mover(row, mask):
    """Of integer maps: units of mass are assigned one by one; as many copies as make the two sums equal."""
    grid = [*product(range(len(row)), range(len(row[0])))]
    own = [
        place for place in grid for _ in range(abs(row[place[0]][place[1]]))
    ] or grid  # a zero map is constant
    aims = [place for place in grid if mask[place[0]][place[1]]]
    if not aims:
        return math.nan
    cost = np.array([[math.dist(p, q) for q in aims * len(own)] for p in own * len(aims)])
    farthest = math.hypot(len(row) - 1, len(row[0]) - 1)
    return 1 - cost[linear_sum_assignment(cost)].mean() / farthest


@pytest.mark.parametrize("shape", [(4, 4), (2, 5), (1, 6), (3, 1)])
def test_earth_mover_equals_its_twin(shape):
    a = torch.randint(-3, 4, (12, *shape), generator=generator())
    mask = torch.rand(12, *shape, generator=generator(1)) < 0.3
    a[0], a[1], mask[2], mask[3] = 0, 1, False, True
    want = [earth_mover(*row) for row in zip(a.tolist(), mask.tolist(), strict=True)]
    assert score("earth_mover", a, mask).tolist() == pytest.approx(want, abs=1e-9, nan_ok=True)
    channels = torch.stack([a.clamp_min(0), a.clamp_max(0)], 1)  # their sizes add up to those of `a`
    in_one = torch.stack([mask, mask & False], 1)
    assert score("earth_mover", channels, in_one).tolist() == pytest.approx(want, abs=1e-9, nan_ok=True)


def test_earth_mover_equals_scipy():
    a, mask = draw(4, 8, 8).abs(), torch.rand(4, 8, 8, generator=generator(1)) < 0.2
    places = [*product(range(8), range(8))]
    for row, inside, got in zip(a, mask, score("earth_mover", a, mask).tolist(), strict=True):
        work = wasserstein_distance_nd(places, places, row.flatten(), inside.double().flatten())
        assert got == pytest.approx(1 - work / math.hypot(7, 7), abs=1e-7)  # their solver's tolerance


# ---- metric = peer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [5, 40])
def test_ranking_scores_equal_sklearn(width):
    """Five hundred random rows each, with ties.

    For average precision rows have none: sklearn takes all of a tie at one threshold, which scores the
    precision at its end, and we score what breaking it at random would.
    """
    tied = torch.randint(-3, 4, (500, width), generator=generator(width)).double()
    mask = torch.rand(500, width, generator=generator(1)) < 0.3
    mask[:, 0], mask[:, 1] = True, False
    for metric, peer, a in (
        ("auroc", roc_auc_score, tied),
        ("average_precision", average_precision_score, draw(500, width)),
    ):
        want = [peer(m, row.abs()) for m, row in zip(mask, a, strict=True)]
        np.testing.assert_allclose(score(metric, a, mask), want, atol=1e-9)
    by_threshold = average_precision_score([1, 0], [1.0, 1.0])
    assert by_threshold == pytest.approx(1 / 2)
    assert one("average_precision", [1.0, 1.0], [True, False]) == pytest.approx((1 + 1 / 2) / 2)


# ---- by hand, and the faults of other suites ------------------------------------------------------------


def test_pointing_is_no_hit_where_there_is_nothing_to_hit():
    assert math.isnan(one("pointing_game", [1.0, 2.0], [False, False]))  # elsewhere counted as a hit
    assert one("pointing_game", [0.0, 0.0, 0.0], [True, False, False]) == pytest.approx(
        1 / 3
    )  # argmax is 0: 1
    assert one("pointing_game", [-5.0, 2.0], [True, False]) == 1


def test_mass_is_of_sizes():
    """Signed sums leave the range: 3 of a sum of .1."""
    assert one("attribution_mass", [3.0, -2.9], [True, False]) == pytest.approx(3 / 5.9)


@pytest.mark.parametrize("relevant", [1, 4, 9])
def test_noise_scores_the_known_chance(relevant):
    """The share of relevant features for most; .5 for AUROC; a little above the share for AP."""
    noise, mask = draw(4000, 12), (torch.arange(12) < relevant)[None]
    share = relevant / 12
    known = {"functional_precision": share, "pointing_game": share, "auroc": 0.5, "attribution_mass": share}
    for metric, chance in known.items():
        found = score(metric, noise, mask)
        assert found.mean().item() == pytest.approx(chance, abs=5 * found.std().item() / 4000**0.5)
    assert share < score("average_precision", noise, mask).mean() < share + 0.2
    assert METRICS["auroc"].facts["chance"] == 0.5


def square(top, left, bottom, right, length=6):
    """A mask of the places from the first corner to the last, both inside."""
    mask = torch.zeros(length, length, dtype=torch.bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask.tolist()


def test_edges_of_a_box_are_inside_it():
    """Lengths of last - first give a box of one place no area: 0 / 0 here, and 0 where two share a place."""
    dot = square(2, 2, 2, 2)
    assert one("box_iou", dot, dot) == 1
    assert one("box_iou", square(0, 0, 1, 1), square(1, 1, 2, 2)) == pytest.approx(1 / 7)
    assert one("box_iou", square(0, 0, 1, 2), square(0, 1, 1, 3)) == pytest.approx(4 / 8)
    assert one("box_iou", square(0, 0, 1, 1), square(2, 2, 3, 3)) == 0


def test_one_stray_feature_stretches_the_box_and_hardly_the_top():
    mask = torch.tensor(square(1, 1, 3, 3))
    a = mask.double()
    a[1, 1], a[5, 5] = 0, 1
    assert one("top_iou", a.tolist(), mask.tolist()) == pytest.approx(8 / 10)
    # eight of the square's places and the stray one: the box goes from 1 to 5, 25 places around 9
    assert one("box_iou", a.tolist(), mask.tolist()) == pytest.approx(9 / 25)


TRIMS = (0.0, 0.05, 0.1, 0.25, 0.49)


def object_in_a_picture(channels=3, first=(9, 5), size=14, side=32):
    """The box of an object in one picture."""
    mask = torch.zeros(1, channels, side, side, dtype=torch.bool)
    mask[:, :, first[0] : first[0] + size, first[1] : first[1] + size] = True
    return mask


@pytest.mark.parametrize("trim", TRIMS)
def test_the_exact_mask_scores_1_however_its_box_is_trimmed(trim):
    masks = torch.cat([object_in_a_picture(), torch.rand(1, 3, 32, 32, generator=generator()) < 0.01])
    masks = torch.cat([masks, object_in_a_picture(first=(0, 18)), object_in_a_picture(size=1)])
    assert score("box_iou", masks, masks, trim=trim).tolist() == [1] * 4
    assert score("box_iou", -masks.double(), masks, trim=trim).tolist() == [1] * 4


def test_the_published_box_of_an_exact_map_scores_less():
    """Lengths of last - first on one side and of the object on the other: 31 x 31 places of 32 x 32."""
    mask = object_in_a_picture(1, (40, 50), 32, 224)[0, 0]
    rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
    found = (rows[-1] - rows[0]) * (columns[-1] - columns[0])
    assert float(found / mask.sum()) == pytest.approx(0.938, abs=5e-4)
    assert one("box_iou", mask.double().tolist(), mask.tolist()) == 1


def test_one_outlier_collapses_the_plain_box_and_hardly_the_trimmed_one():
    mask = object_in_a_picture()
    a = mask.double()
    a[..., 9, 5], a[..., 31, 31] = 0, 1
    assert score("box_iou", a, mask).item() == pytest.approx(14 * 14 / (23 * 27))
    for trim in TRIMS[1:]:
        assert score("box_iou", a, mask, trim=trim).item() > 0.97
    # a tenth far off, and its quantiles are at 1 and at 9: as of ten places in a row
    a, mask = torch.zeros(1, 1, 40, dtype=torch.float64), torch.zeros(1, 1, 40, dtype=torch.bool)
    a[..., :9], a[..., 39], mask[..., :10] = 1, 1, True
    assert score("box_iou", a, mask).item() == pytest.approx(10 / 40)
    assert score("box_iou", a, mask, trim=0.1).item() == pytest.approx(1)
    assert score("box_iou", a, mask, trim=0.09).item() < 0.4


def test_a_blur_of_signed_values_cancels_what_the_model_uses():
    """As published for some methods, and not for others: where signs alternate it scores (14 / 32)^2."""
    mask = object_in_a_picture().expand(20, -1, -1, -1)
    sign = 1.0 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2).double()
    a = mask * sign + 0.3 * draw(20, 3, 32, 32)
    published = torch.from_numpy(gaussian_filter(a.numpy(), (0, 0, 1.5, 1.5)))
    assert score("box_iou", published, mask).mean().item() == pytest.approx(0.19, abs=0.01)
    assert score("box_iou", a, mask, sigma=1.5).mean().item() == pytest.approx(0.92, abs=0.03)


def test_a_blur_keeps_ties_and_rounds_the_corners_of_the_exact_map():
    mask = object_in_a_picture()
    assert score("box_iou", mask, mask, sigma=1.0).item() == 1
    assert score("box_iou", mask, mask, sigma=3.0).item() == pytest.approx((14 / 16) ** 2)
    assert score("box_iou", mask, mask, sigma=1e-3).item() == 1
    # around a single place four tie, though the blur goes along one axis after the other; with two of them in
    # the top the box is the object, stands upright, or is a square of four
    dot, flat = torch.zeros(600, 7, 7, dtype=torch.float64), torch.zeros(1, 7, 7, dtype=torch.bool)
    dot[:, 3, 3], flat[:, 3, 2:5] = 0.1, True
    found = score("box_iou", dot, flat, sigma=1.3, orders=1)
    assert found.unique().tolist() == pytest.approx([1 / 5, 2 / 5, 1])
    assert found.mean().item() == pytest.approx((1 + 1 / 5 + 4 * 2 / 5) / 6, abs=0.05)


class Bright(torch.nn.Module):
    """Two outputs that use all of a picture."""

    def forward(self, x):
        return torch.stack([x.sum((1, 2, 3)), x.square().sum((1, 2, 3))], 1)


@pytest.mark.parametrize("given", ["", "[trim=0.1]", "[sigma=2]", "[sigma=1,trim=0.05]"])
def test_random_maps_of_pictures_score_the_measured_chance_and_the_ceiling_is_1(given):
    rows, mask = 60, object_in_a_picture()
    x = torch.rand(rows + 2, 3, 32, 32, generator=generator()) * 2 - 1
    problem = Problem(
        x=x,
        y=torch.arange(rows + 2) % 2,
        task="classification",
        n_train=1,
        n_validation=1,
        n_explained=rows,
        baseline=torch.zeros(3, 32, 32),
        background=x[:2],
        masks={"relevant": mask},
    )
    case = Case(
        model=Bright(),
        x=x[2:],
        target=torch.zeros(rows, dtype=torch.int64),
        baseline=problem.baseline,
        background=x[:2],
        groups=None,
        rng=generator(),
    )
    (metric,) = settings(METRICS, f"box_iou{given}")
    yardstick = Yardstick(problem, case, "pictures")
    chance, ceiling = yardstick.bounds(metric, Aim())
    found = score("box_iou", draw(rows, 3, 32, 32, seed=5), mask, **metric.params)
    error = math.hypot(found.std().item() / rows**0.5, chance.std() / chance.size**0.5)
    assert abs(found.mean().item() - chance.mean()) < 4 * error
    assert chance.mean() == pytest.approx(0.19, abs=0.02)
    assert ceiling.tolist() == [1] * rows


def test_pictures_by_hand():
    """A map of three channels, with the places of the object in one and as much elsewhere in another."""
    mask = object_in_a_picture(first=(28, 28), size=4)
    a = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    a[:, 0, 28:, 28:], a[:, 1, :4, :8] = -3, 2
    assert score("pointing_game", a, mask).item() == 1
    assert score("pointing_game", -a.flip(2), mask).item() == 0
    assert score("top_iou", a, mask).item() == pytest.approx(16 / (2 * 48 - 16))  # 16 of 48 features
    alone = torch.zeros_like(a)
    alone[:, 2, 1, 2] = -5
    assert score("earth_mover", alone, mask).item() == pytest.approx(0, abs=1e-12)
    assert score("pointing_game", alone, mask).item() == 0
    alone[:, 0, 30, 30] = 5  # half of it at its aim, whatever the channel
    assert score("earth_mover", alone, mask).item() == pytest.approx(0.5)
    assert score("box_iou", alone, mask, orders=1).item() < 0.05


@pytest.mark.parametrize("shape", [(8, 8), (3, 5)])
def test_earth_moved_from_corner_to_corner_scores_nothing(shape):
    """Divided by the length of the diagonal of 8 x 8 fields, 11.31, it would score 1 - 9.90 / 11.31."""
    a, mask = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    a[0, 0], mask[-1, -1] = 1, True
    assert one("earth_mover", a.tolist(), mask.tolist()) == pytest.approx(0, abs=1e-12)
    assert one("earth_mover", mask.double().tolist(), mask.tolist()) == 1


def test_a_zero_map_is_scored_as_a_constant_one_and_not_dropped():
    mask = square(0, 0, 1, 1, 4)
    zero, constant = [[0.0] * 4] * 4, [[0.3] * 4] * 4
    for metric in (*FLAT, "earth_mover", *ALONE):
        assert one(metric, zero, mask) == pytest.approx(one(metric, constant, mask))
    assert one("earth_mover", zero, mask) < 0.8


def test_large_planes_are_pooled_into_cells():
    a, mask = draw(3, 4, 4).abs(), torch.rand(3, 4, 4, generator=generator(1)) < 0.3
    large, large_mask = (v.repeat_interleave(3, 1).repeat_interleave(3, 2) for v in (a, mask))
    want = score("earth_mover", a, mask)
    torch.testing.assert_close(score("earth_mover", large, large_mask, side=4), want)
    assert not torch.allclose(score("earth_mover", large, large_mask, side=12), want, atol=1e-4)
    # five places in cells of three and two, centred at 1 and 3.5
    tall = torch.eye(5)[:, :, None]
    inside = torch.tensor([False, False, True, False, False])[None, :, None]
    assert score("earth_mover", tall, inside, side=2).tolist() == pytest.approx([1, 1, 1, 0, 0])


def test_rows_that_are_alike_are_solved_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "assay.metrics.earth_mover.linprog", lambda *a, **k: calls.append(1) or linprog(*a, **k)
    )
    a = draw(2, 3, 3).repeat(5, 1, 1)
    got = score("earth_mover", a, torch.tensor([square(0, 0, 1, 1, 3)]))
    assert len(calls) == 2
    torch.testing.assert_close(got, got[:2].repeat(5))


def test_features_that_are_not_in_a_plane_have_no_boxes_and_no_distances():
    for metric in PLANE:
        with pytest.raises(NotApplicable, match="plane"):
            score(metric, draw(2, 5))


def test_a_map_of_one_feature_alone_is_sparsest_whatever_the_number_of_features():
    """The plain index scores 1 - 1 / d, and the entropy log d for a constant map: .9 of 10 is .99 of 100."""
    for width in (2, 10, 100):
        alone, constant = [0.0] * (width - 1) + [-3.0], [0.3] * width
        assert one("sparseness", alone) == pytest.approx(1)
        assert one("complexity", alone) == 0
        assert one("sparseness", constant) == pytest.approx(0, abs=1e-12)
        assert one("complexity", constant) == pytest.approx(1)
        assert one("effective_complexity", alone) == pytest.approx(1 / width)
        half = [1.0] * (width // 2) + [0.0] * (width // 2)
        assert one("complexity", half) == pytest.approx(math.log(width / 2) / math.log(width))


def test_sparseness_does_not_expect_a_sorted_map():
    row = [0.1, 3.0, 0.2, 1.0]
    wrong = sum((2 * i - 4 - 1) * v for i, v in enumerate(row, 1)) / (3 * sum(row))  # as if it were sorted
    want = one("sparseness", sorted(row))
    assert abs(wrong - want) > 0.1
    assert {round(one("sparseness", list(p)), 12) for p in permutations(row)} == {round(want, 12)}


def test_effective_complexity_of_a_row_hangs_on_no_other_row():
    """Divided by the largest of the batch, all features of a row of small values are negligible."""
    rows = torch.tensor([[1.0, 0.5, 0.001], [1e6, 1.0, 1.0]])
    assert score("effective_complexity", rows).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert score("effective_complexity", rows[:1]).tolist() == pytest.approx([2 / 3])


# ---- what is undefined, and what does not matter --------------------------------------------------------


@pytest.mark.parametrize("metric", [*FLAT, *PLANE, *ALONE])
def test_order_layout_and_neighbouring_rows_do_not_matter(metric):
    a = draw(6, 3, 4)
    mask = torch.rand(6, 3, 4, generator=generator(1)) < 0.3
    want = score(metric, a, mask)
    changes = [lambda v: v.flip(1), lambda v: v.transpose(1, 2), lambda v: v.unsqueeze(1)]
    changes += (
        [] if metric in PLANE else [lambda v: v.flatten(1)[:, torch.randperm(12, generator=generator(2))]]
    )
    for change in changes:
        torch.testing.assert_close(score(metric, change(a), change(mask)), want, equal_nan=True)
    torch.testing.assert_close(score(metric, a[2:3], mask[2:3]), want[2:3], equal_nan=True)


@pytest.mark.parametrize("metric", [*FLAT, *PLANE, *ALONE])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (1, 2, 3), (2, 4)])
def test_scores_are_in_range_and_maps_are_left_as_they_were(metric, shape):
    for a in (draw(5, *shape), torch.zeros(5, *shape, dtype=torch.float64)):
        e = evidence(a.clone())
        got = METRICS[metric].function(e)
        assert got.shape == (5,)
        assert ((got >= 0) & (got <= 1)).all()
        assert torch.equal(e.attribution, a)


@pytest.mark.parametrize("metric", [*FLAT, *PLANE])
def test_an_empty_mask_is_undefined(metric):
    assert score(metric, draw(2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.bool)).isnan().all()


# ---- the claims -----------------------------------------------------------------------------------------

SETTINGS = [(m, {}) for m in (*OLD, *FLAT, *PLANE, *ALONE)] + [("attribution_error", {"rescale": True})]


def plane(rows):
    """Rows of six features in a plane of two by three."""
    return torch.as_tensor(rows, dtype=torch.float64).view(-1, 2, 3)


def claims(metric, parameters):
    """What is claimed of these parameters, where what is not may hold all the same."""
    return set(METRICS[metric].facts["claims"]), not parameters


@pytest.mark.parametrize(("metric", "parameters"), SETTINGS)
def test_scale_and_sign_do_not_matter_where_that_is_claimed(metric, parameters):
    claimed, only = claims(metric, parameters)
    e = evidence(draw(30, 2, 3))
    want = METRICS[metric].function(e, **parameters)
    for claim, factor in (("scale", 7.3), ("sign", -1.0)):
        changed = replace(e, attribution=factor * e.attribution, memo={}, rng=generator())
        held = torch.allclose(METRICS[metric].function(changed, **parameters), want)
        assert held == (claim in claimed) or (held and not only)


@pytest.mark.parametrize(("metric", "parameters"), SETTINGS)
def test_the_exact_attribution_of_a_linear_model_is_best_where_that_is_claimed(metric, parameters):
    weight = plane([0.0, 2.0, -1.0, 0.0, 0.5, 0.0])[0]
    x = draw(60, 2, 3, seed=4)
    e = evidence(weight * x, relevant=(weight != 0)[None], weight=weight, x=x)
    facts = METRICS[metric].facts
    exact, noise, negated = (
        METRICS[metric].function(replace(e, attribution=a, memo={}, rng=generator()), **parameters)
        for a in (e.attribution, draw(60, 2, 3, seed=5), -e.attribution)
    )
    best = torch.allclose(exact, torch.full_like(exact, facts["best"]), atol=1e-9)
    assert best == ("exact" in facts["claims"])
    better = exact.mean() - noise.mean() if facts["best"] > facts["worst"] else noise.mean() - exact.mean()
    assert better > 0.05  # not what complexity is for, but three features are simpler than six
    assert torch.allclose(negated, exact) == ("sign" in facts["claims"])


NUDGES = [*permutations((6.0, 5.0, 4.0, 3.0, 2.0, 0.01))]


@pytest.mark.parametrize(("metric", "parameters"), [s for s in SETTINGS if s[0] not in PLANE])
def test_ties_score_the_mean_over_their_breakings_where_that_is_claimed(metric, parameters):
    """Rows with ties, a constant and a zero row, and some at the baseline, where the truth is zero too."""
    claimed, only = claims(metric, parameters)
    mask, held = plane([1.0, 0, 0, 1, 0, 0]) > 0, []
    places = [draw(1, 2, 3, seed=12)]
    if metric in {"uscore", "attribution_error", "completeness"}:
        places.append(torch.zeros(1, 2, 3, dtype=torch.float64))
    for row, x in product(([2.0, 1, 0, 0, 0, 1], [0.3] * 6, [0.0] * 6), places):
        broken = plane(row) + 1e-9 * plane(NUDGES)
        alone = metric == "global_precision"  # it judges rows together
        parts = [evidence(b, mask, x=x.expand_as(b)) for b in broken.split(1 if alone else len(broken))]
        every = torch.cat([METRICS[metric].function(part, **parameters) for part in parts])
        got = METRICS[metric].function(evidence(plane(row), mask, x=x), **parameters)
        held.append(torch.allclose(got, every.mean(0, keepdim=True), atol=1e-6, equal_nan=True))
    assert all(held) == ("ties" in claimed) or (all(held) and not only)


def test_the_distance_of_a_mean_is_not_the_mean_distance():
    """Which is why the earth mover's score of a zero map claims to be no mean over noise."""
    noise, zero = draw(200, 2, 3), torch.zeros(1, 2, 3, dtype=torch.float64)
    for inside, linear in (([1, 0, 0, 0, 0, 0], True), ([1, 1, 1, 1, 1, 1], False)):
        mask = plane(inside) > 0
        found = score("earth_mover", noise, mask)
        held = abs(score("earth_mover", zero, mask).item() - found.mean().item()) < 5 * found.std() / 200**0.5
        assert held == linear  # all mass goes to one place, or what one place has too much goes to others
