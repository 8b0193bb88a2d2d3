"""Pictures: what they show is read back from matplotlib, and names are as hard as they come."""

import dataclasses
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from assay.benchmarks import curveplots, palette, plots, rankplots
from assay.benchmarks.findings import Findings
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.registry import AssayError
from assay.benchmarks.significance import Significance
from assay.benchmarks.trust import Trust

NASTY = "a$x_{1}$ <b>|%\n\N{SNOWMAN}"
AIR = 15  # pixels that a file has around its page
METHODS = [NASTY, *(f"method_{i}[budget={10**i}]" for i in range(18)), "random"]


def board(skills, costs=None, control=("random",)):
    made = pd.DataFrame({"method": [*skills], "skill": [*skills.values()]})
    made.insert(0, "rank", made["skill"].rank(ascending=False))
    made["seconds_per_row"] = costs or [10.0**-i for i in range(len(made))]
    for column, gap in {"low": -0.2, "high": 0.2, "low_here": -0.05, "high_here": 0.05}.items():
        made[column] = made["skill"] + gap
    return made.assign(control=made["method"].isin(control))


def found(skills=None, **parts) -> Findings:
    """Findings with a leaderboard and these parts; all others empty."""
    skills = skills or {m: 1 - i / len(METHODS) for i, m in enumerate(METHODS)}
    empty = pd.DataFrame()
    fixed = {"boards": {"overall": board(skills)}, "pairs": empty, "made": {}, "name": "a_$b$"}
    return Findings(folder=Path("nowhere"), tables=Tables(empty, empty, empty, empty), **fixed | parts)


def curve_rows(
    methods=METHODS, levels=(0.0, 20.0, 100.0), held=("",), axis="columns", parameters="function=7"
):
    rows = [
        {"dataset": "d", "parameters": parameters, "axis": axis, "held": h, "level": level, "method": m}
        | {"skill": 1 / (i + j + 1), "low": 1 / (i + j + 1) - 0.1, "high": 1 / (i + j + 1) + 0.1}
        for h in held
        for i, m in enumerate(methods)
        for j, level in enumerate(levels)
    ]
    return pd.DataFrame(rows)


def breakdown_rows(methods=METHODS, clean=0.0):
    says = ["at", "never", "always below", "no skill"]
    rows = [
        {"dataset": "d", "parameters": "function=7", "axis": "columns", "held": "", "method": m}
        | {
            "clean_level": clean,
            "clean_skill": 0.8,
            "says": says[i % 4],
            "level": 40.0,
            "low": 30.0,
            "high": 50.0,
        }
        for i, m in enumerate(methods)
    ]
    frame = pd.DataFrame(rows)
    frame.loc[frame["says"] != "at", ["level", "low", "high"]] = math.nan
    return frame


def significance(methods=METHODS):
    ranks = pd.Series(np.linspace(1, len(methods), len(methods)), index=methods)
    return Significance(
        mean_ranks=ranks,
        cliques=[methods[i : i + 5] for i in range(0, len(methods) - 4, 3)],
        critical_difference=4.2,
        blocks=12,
        friedman_p=0.012,
        friedman_statistic=9.0,
        iman_davenport=9.0,
        iman_davenport_p=0.01,
        pairs=pd.DataFrame(),
    )


def trusted(metrics):
    rows = [{"metric": m, "tau": 0.5, "tau_real": 0.2, "low_real": 0.1, "high_real": 0.3} for m in metrics]
    empty = pd.DataFrame()
    return Trust(pd.DataFrame(rows), empty, empty, (), math.nan)


def everything(methods=METHODS):
    return found(
        {m: 1 - i / len(methods) for i, m in enumerate(methods)},
        significance=significance(methods),
        profiles=pd.concat(
            pd.DataFrame({"method": m, "threshold": t, "share": 1 - t, "low": 0.9 - t, "high": 1.1 - t})
            for m, t in ((m, np.linspace(0, 1, 41)) for m in methods)
        ),
        curves=curve_rows(methods),
        breakdowns=breakdown_rows(methods),
        agreement=pd.DataFrame(0.5, index=methods, columns=methods),
        trust=trusted(["deletion", NASTY]),
    )


def boxes(figure: Figure):
    """Extent of every text that is seen, in pixels, as it is written to the file."""
    FigureCanvasAgg(figure).draw()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    unseen = {
        tick.label1
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    shown = [t for t in texts if t not in unseen and (t.axes is None or t.axes.get_visible())]
    return [(t.get_text(), tuple(t.get_window_extent().extents.tolist())) for t in shown]


def overlapping(figure):
    """Every two texts that stand on each other by more than a pixel."""
    return [
        (a, b)
        for (a, (left, low, right, high)), (b, (west, south, east, north)) in combinations(boxes(figure), 2)
        if min(right, east) - max(left, west) > 1 and min(high, north) - max(low, south) > 1
    ]


FIGURES = {
    **plots.WHOLE,
    "curve": lambda f: curveplots.curves(f.curves, METHODS),
    "breakdown": lambda f: curveplots.breakdowns(
        f.breakdowns, curveplots.Levels([0.0, 20.0, 100.0]), METHODS
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_texts_of_a_picture_of_twenty_methods_overlap_and_none_is_cut_off(name):
    with palette.style():
        figure = FIGURES[name](everything())
        assert overlapping(figure) == []
        page = figure.bbox
        for text, (left, low, right, high) in boxes(figure):
            assert min(left, low, page.x1 - right, page.y1 - high) >= -AIR, text


def test_overlapping_finds_what_overlaps():
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "two")
    assert overlapping(figure) == [("one", "two")]


def test_every_section_with_numbers_makes_a_file_and_no_other_does(tmp_path):
    written = plots.draw(everything(METHODS[:4]), tmp_path)
    names = [*plots.WHOLE, "curve-d-function=7-columns", "breakdown-d-function=7-columns"]
    assert [path.name for path in written] == [f"{name}.png" for name in names]
    assert sorted(p.name for p in (tmp_path / "charts").iterdir()) == sorted(path.name for path in written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_pictures_have_200_dots_an_inch(tmp_path):
    from matplotlib.image import imread

    first, *_ = plots.draw(found({"a": 0.5}), tmp_path)
    assert imread(first).shape[1] == pytest.approx(8.5 * 200, rel=0.05)


def test_charts_of_a_former_call_are_removed_and_files_of_others_are_not(tmp_path):
    plots.draw(everything(METHODS[:4]), tmp_path)
    (tmp_path / "charts" / "mine.png").write_bytes(b"")
    plots.draw(found({"a": 0.5, "b": 0.4}), tmp_path)
    left = {p.name for p in (tmp_path / "charts").iterdir()}
    assert left == {"leaderboard.png", "cost.png", "mine.png"}


def test_a_folder_that_cannot_be_written_is_an_error_of_the_user(tmp_path):
    (tmp_path / "charts").write_text("in the way")
    with pytest.raises(AssayError, match="cannot be written"):
        plots.draw(found(), tmp_path)


def test_where_nobody_has_a_skill_there_is_nothing_to_draw(tmp_path):
    assert plots.draw(found({"a": math.nan}), tmp_path) == []


def test_the_leaderboard_shows_the_skills_and_both_intervals():
    with palette.style():
        (axes,) = rankplots.leaderboard(found({"a": 0.75, "random": 0.0})).axes
    points = {tuple(xy) for line in axes.lines for xy in np.c_[line.get_xdata(), line.get_ydata()]}
    assert {(0.75, 0), (0.0, 1)} <= points
    ends = {tuple(segment[:, 0].round(9)) for lines in axes.collections for segment in lines.get_segments()}
    assert ends == {(0.55, 0.95), (-0.2, 0.2), (0.7, 0.8), (-0.05, 0.05)}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "random"]


def test_names_are_drawn_as_they_are():
    assert palette.shown(NASTY) == "a$x_{1}$ <b>|% \N{SNOWMAN}"  # a font that has it
    assert palette.shown("a\N{HIRAGANA LETTER A}b") == "a\N{REPLACEMENT CHARACTER}b"
    long = "abc" * 30 + "xyz"
    assert len(palette.shown(long)) == palette.LONGEST
    assert palette.shown(long).startswith("abcabc")
    assert palette.shown(long).endswith("xyz")
    with palette.style():
        (axes,) = rankplots.leaderboard(found({NASTY: 0.5})).axes
        assert not any(label.get_parse_math() for label in axes.get_yticklabels())


@pytest.mark.parametrize(
    ("costs", "values", "left_out", "wanted"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [False] * 3, [0, 1, 2]),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [False] * 3, [0]),
        ([3.0, 2.0, 1.0], [3.0, 0.5, 1.0], [False] * 3, [2, 0]),
        ([1.0, 1.0], [1.0, 2.0], [False] * 2, [1]),
        ([1.0, 2.0], [2.0, 2.0], [False] * 2, [0]),
        ([1.0, 2.0], [9.0, 2.0], [True, False], [1]),
    ],
)
def test_the_frontier_by_its_definition(costs, values, left_out, wanted):
    assert rankplots.frontier(costs, values, left_out) == wanted


def test_the_best_eight_and_random_have_looks_of_their_own():
    looks = palette.looks(METHODS)
    assert [*looks] == [*METHODS[:8], "random"]
    for part in ("colour", "mark", "dash"):
        assert len({str(getattr(look, part)) for look in looks.values()}) == 9
    assert [*palette.looks(["random", "a"])] == ["a", "random"]


def test_curves_show_the_means_of_the_highlighted_and_leave_the_others_grey():
    with palette.style():
        (axes,) = curveplots.curves(curve_rows(), METHODS).axes
    grey = [line for line in axes.lines if line.get_color() == palette.FAINT]
    assert len(grey) == len(METHODS) - 9
    first = next(line for line in axes.lines if line.get_color() == palette.COLOURS[0])
    np.testing.assert_allclose(first.get_xydata(), [[0, 1], [20, 1 / 2], [100, 1 / 3]])


def test_every_setting_of_the_other_axes_has_a_panel():
    with palette.style():
        figure = curveplots.curves(curve_rows(METHODS[:2], held=("b=1", "b=2", "b=3", "b=4")), METHODS)
        seen = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title(loc="left") for axes in seen] == ["b=1", "b=2", "b=3", "b=4"]
        assert len({axes.get_ylim() for axes in seen}) == 1
        assert overlapping(figure) == []


def test_problems_that_differ_in_later_parameters_alone_have_files_of_their_own():
    both = [
        curve_rows(["a"], parameters="function=7 rows=10"),
        curve_rows(["a"], parameters="function=7 rows=20"),
    ]
    names = [name for name, _ in curveplots.subjects(pd.concat(both))]
    assert names == ["d-function=7-columns", "d-function=7-columns-2"]


@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        ([0.0, 20.0, 100.0], [0.0, 20.0, 100.0]),
        ([0.0, 1.0, 10.0, 100.0], [-1.0, 0.0, 1.0, 2.0]),
        ([10.0, 1000.0], [0.0, 2.0]),
        ([-10.0, 0.0, 30.0, math.inf], [-10.0, 0.0, 30.0, 50.0]),
        ([5.0], [5.0]),
    ],
)
def test_where_levels_stand(levels, wanted):
    np.testing.assert_allclose(curveplots.Levels(levels).at(levels), wanted)


def test_levels_between_those_that_were_run_stand_between_them():
    assert curveplots.Levels([1.0, 100.0]).at([10.0])[0] == pytest.approx(1.0)
    assert curveplots.Levels([0.0, 100.0]).at([30.0])[0] == pytest.approx(30.0)


@pytest.mark.parametrize(("clean", "never", "below"), [(0.0, 100.0, 0.0), (100.0, 0.0, 100.0)])
def test_never_stands_at_the_noisy_end_and_always_below_at_the_other(clean, never, below):
    with palette.style():
        rows = breakdown_rows(METHODS[:4], clean)
        (axes,) = curveplots.breakdowns(rows, curveplots.Levels([0.0, 100.0]), METHODS[:4]).axes
    points = {
        (float(x), float(y)) for line in axes.lines for x, y in np.c_[line.get_xdata(), line.get_ydata()]
    }
    assert points == {(40.0, 0), (never, 1), (below, 2), (below, 3)}
    marks = {float(line.get_ydata()[0]): line.get_marker() for line in axes.lines}
    assert (marks[1], marks[2]) == ((">", "<") if clean == 0 else ("<", ">"))


def test_bars_of_the_critical_difference_diagram_span_their_cliques():
    told = dataclasses.replace(significance(["a", "b", "c", "d"]), cliques=[["a", "b", "c"], ["d"]])
    with palette.style():
        (axes,) = rankplots.critical_difference(found(significance=told)).axes
    (bar,) = [line for line in axes.lines if line.get_linewidth() > 2]
    assert bar.get_xdata() == pytest.approx([1.0, 3.0], abs=0.05)


def test_names_beside_points_that_are_all_at_one_place_do_not_overlap():
    skills = {f"some_method_{i}": 0.5 for i in range(12)}
    one = dataclasses.replace(found(skills), boards={"overall": board(skills, costs=[0.001] * 12)})
    with palette.style():
        assert overlapping(rankplots.cost(one)) == []


def test_a_method_without_a_cost_is_left_out_and_one_alone_makes_no_picture():
    skills = {"a": 0.5, "b": 0.4}
    one = dataclasses.replace(found(skills), boards={"overall": board(skills, costs=[0.001, math.nan])})
    with palette.style():
        assert rankplots.cost(one) is None
