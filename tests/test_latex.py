"""The table for papers: read back by a small parser, with names that would break it."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from assay.benchmarks.findings import Findings
from assay.benchmarks.latex import best, escaped, latex
from assay.benchmarks.leaderboard import Tables
from assay.benchmarks.registry import AssayError

NASTY = r"a_b%c&d#e$f{g}h~i^j\k<l>|m[n=1]`'" + '"'


def board(skills, control=(), **changed):
    """A leaderboard with these skills, best first."""
    rows = [
        {"rank": float(place), "method": method, "skill": skill, "low": skill - 0.1, "high": skill + 0.1}
        | {"low_here": skill - 0.01, "high_here": skill + 0.01, "faithfulness": 0.5, "agreement": 0.25}
        | {"seconds_per_row": 0.001234, "control": method in control}
        | changed
        for place, (method, skill) in enumerate(skills.items(), 1)
    ]
    return pd.DataFrame(rows)


def pairs(*rows):
    return pd.DataFrame(rows, columns=["a", "b", "low", "high"])


def found(skills, told=None, name="quick", control=(), family="ground truth", **changed):
    scores = pd.DataFrame(
        {"dataset": ["d", "d"], "parameters": ["p", "q"], "noise": "", "status": "ok", "skill": 0.5}
    ).assign(family=family)
    empty = pd.DataFrame()
    boards = {"overall": board(skills, control, **changed), "d": board(skills, control, **changed)}
    return Findings(
        folder=Path("nowhere"),
        name=name,
        tables=Tables(scores, empty, empty, empty),
        made={},
        boards=boards,
        pairs=pairs() if told is None else told,
    )


def balanced(text):
    """Whether every brace that is no letter is closed, and no line closes more than is open."""
    depth = 0
    for sign in re.findall(r"\\.|[{}]", re.sub(r"(?m)^%.*$", "", text)):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    return depth == 0


def cells(line):
    """The cells of a row: what stands between the ampersands that are no letters."""
    assert line.endswith(r" \\")
    return re.split(r"(?<!\\)&", line.removesuffix(r"\\"))


def rows(text):
    """Heading and rows of the tabular, each as its cells; rules are left out."""
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")].splitlines()[1:]
    return [
        [cell.strip() for cell in cells(line)]
        for line in map(str.strip, body)
        if line and line != r"\midrule"
    ]


def columns(text):
    return len(re.search(r"\\begin\{tabular\}\{@\{\}([lcr]+)@\{\}\}", text)[1])


def printed(cell):
    """What LaTeX prints of a cell of ours, commands and escapes undone."""
    plain = re.sub(r"\\text(bf|it)\b|\\scriptsize ", "", cell)
    for command, letter in {
        **{"asciitilde": "~", "asciicircum": "^", "backslash": "\0", "less": "<", "greater": ">"},
        **{"bar": "|", "asciigrave": "`", "quotedbl": '"', "quotesingle": "'"},
    }.items():
        plain = plain.replace(rf"\text{command}{{}}", letter)
    plain = re.sub(r"(?<!\\)[{}]", "", plain)
    return re.sub(r"\\([_%&#${}])", r"\1", plain).replace("\0", "\\")


def test_every_method_has_one_row_with_as_many_cells_as_the_table_has_columns():
    text = latex(found({NASTY: 0.9, "b": 0.5, "random": 0.0}, control=["random"]))
    heading, *body = rows(text)
    assert balanced(text)
    assert columns(text) == len(heading) == 7
    assert [len(row) for row in body] == [7, 7, 7]
    assert [printed(row[1]) for row in body] == [NASTY, "b", "random"]


@pytest.mark.parametrize("letter", list("_%&#${}~^\\<>|[]`'\""))
def test_no_letter_of_a_name_is_a_command(letter):
    assert printed(escaped(f"a{letter}b")) == f"a{letter}b"
    assert escaped(f"a{letter}b") != f"a{letter}b"
    assert balanced(escaped(f"a{letter}b"))


def test_a_line_break_in_a_name_does_not_end_the_row():
    assert escaped("a\r\nb\tc\x00d") == "a b c d"


def test_names_of_suites_and_datasets_are_escaped_in_the_caption_and_left_out_of_the_label():
    text = latex(found({"a": 1.0}, name="x_y%<z>"))
    assert r"suite x\_y\%\textless{}z\textgreater{}" in text
    assert r"\label{tab:assay-x-y-z-overall}" in text


def test_numbers_stand_as_people_read_them():
    _, row = rows(latex(found({"a": -0.12345})))
    assert row == [
        *("1", r"\textbf{a}", r"\textbf{$-$0.123}", r"{\scriptsize $-$0.223 to $-$0.023}"),
        *("0.50", "0.25", "1.23"),
    ]


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(12.3456, "12,346"), (0.1, "100"), (1e-8, "$<$0.001"), (math.nan, "--")]
)
def test_a_time_has_no_power_of_ten(seconds, wanted):
    two = found({"a": 1.0, "b": 0.5})
    two.boards["overall"].loc[0, "seconds_per_row"] = seconds
    assert rows(latex(two))[1][-1] == wanted


def test_all_that_cannot_be_told_from_the_best_are_bold():
    told = pairs(("a", "b", -0.1, 0.2), ("c", "a", -0.3, 0.0), ("a", "d", 0.1, 0.2), ("b", "d", -1.0, 1.0))
    four = found({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}, told)
    assert best(four, "overall") == ["a", "b", "c"]
    text = latex(four)
    assert [r"\textbf" in row[1] for row in rows(text)[1:]] == [True, True, True, False]
    assert "cannot be told from it on these problems" in text


def test_what_is_told_overall_says_nothing_of_one_dataset():
    two = found({"a": 0.9, "b": 0.8}, pairs(("a", "b", -0.1, 0.2)))
    assert best(two, "d") == ["a"]


def test_without_pairs_or_where_their_interval_is_not_known_only_the_best_is_bold():
    assert best(found({"a": 0.9, "b": 0.9}), "overall") == ["a"]
    assert best(found({"a": 0.9, "b": 0.9}, pairs(("a", "b", math.nan, math.nan))), "overall") == ["a"]


def test_where_nobody_has_a_skill_nobody_is_bold():
    nobody = found({"a": math.nan})
    assert best(nobody, "overall") == []
    assert rows(latex(nobody))[1][:3] == ["1", "a", "--"]


def test_controls_stand_below_a_rule_in_italics():
    text = latex(found({"random": 0.9, "a": 0.5}, control=["random"]))
    body = text[text.index(r"\midrule") :]
    assert body.index("& a &") < body.rindex(r"\midrule") < body.index(r"\textit{random}")
    assert "Italics: controls" in text
    assert "Italics" not in latex(found({"a": 0.5}))


@pytest.mark.parametrize(
    ("lacking", "wanted", "says"),
    [
        ({}, "0.800 to 1.000", "on problems like these"),
        ({"low": math.nan, "high": math.nan}, "0.890 to 0.910", "on these problems, drawn again"),
    ],
)
def test_the_caption_says_which_interval_is_shown(lacking, wanted, says):
    text = latex(found({"a": 0.9}, **lacking))
    assert printed(rows(text)[1][3]) == wanted
    assert says in text


def test_a_column_that_is_empty_for_all_is_left_out():
    text = latex(found({"a": 0.9}, agreement=math.nan))
    assert rows(text)[0] == ["Rank", "Method", "Skill", r"95\% interval", "Faithfulness", "ms/row"]
    assert columns(text) == len(rows(text)[1]) == 6
    assert "Agreement" not in text


def test_the_caption_says_what_the_exact_answer_is():
    assert "1 for the exact one" in latex(found({"a": 0.9}))
    assert "measured to rely on" in latex(found({"a": 0.9}, family="reliance"))
    assert "over 2 problems" in latex(found({"a": 0.9}))


def test_an_unknown_scope_is_refused():
    with pytest.raises(AssayError, match=r"no leaderboard is of 'overal'.* Did you mean 'overall'"):
        latex(found({"a": 0.9}), "overal")
