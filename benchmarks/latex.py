"""A leaderboard as a table for a paper."""

import re
from typing import Any

import pandas as pd

from . import leaderboard as lead
from .findings import Findings
from .pairs import beside
from .registry import AssayError, near_miss

SPECIAL = {
    **{char: f"\\{char}" for char in "_%&#${}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"},
    **{'"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "[": "{[}", "]": "{]}"},
}
COLUMNS = {  # heading: alignment
    **{"Rank": "r", "Method": "l", "Skill": "r", r"95\% interval": "l"},
    **{"Faithfulness": "r", "Agreement": "r", "ms/row": "r"},
}
ALWAYS = ("Rank", "Method", "Skill")  # the other columns only where some method has a number
UNKNOWN = "--"
PACKAGES = r"% needs \usepackage[T1]{fontenc} and \usepackage{booktabs}"
TABLE = r"""{packages}
\begin{{table}}
  \centering
  \small
  \caption{{{caption}}}
  \label{{{label}}}
  \begin{{tabular}}{{@{{}}{alignment}@{{}}}}
    \toprule
    {heading} \\
    \midrule
{rows}
    \bottomrule
  \end{{tabular}}
\end{{table}}
"""


def latex(found: Findings, scope: str = "overall") -> str:
    """A leaderboard as a LaTeX table: best in bold, controls below a rule and in italics.

    Args:
        found: of a results folder.
        scope: `overall`, or a dataset where there are several.

    Returns:
        A `table` environment for the packages booktabs and fontenc.

    Raises:
        AssayError: there is no leaderboard of this scope.
    """
    if scope not in found.boards:
        raise AssayError(f"no leaderboard is of {scope!r}.{near_miss(scope, found.boards)}")
    board = found.boards[scope]
    ends = next(
        (pair for pair in (("low", "high"), ("low_here", "high_here")) if board[pair[0]].notna().any()),
        None,
    )
    bold = best(found, scope)
    control = board["control"].astype(bool)
    lines = [_cells(row, ends, row["method"] in bold) for _, row in board.iterrows()]
    there = [h for h in COLUMNS if h in ALWAYS or any(cells[h] != UNKNOWN for cells in lines)]
    typed = [f"    {' & '.join(cells[h] for h in there)} \\\\" for cells in lines]
    groups = [
        [line for line, own in zip(typed, control, strict=True) if own == side] for side in (False, True)
    ]
    return TABLE.format(
        packages=PACKAGES,
        caption=_caption(found, scope, ends, bold),
        label=_label(found.name, scope),
        alignment="".join(COLUMNS[h] for h in there),
        heading=" & ".join(there),
        rows="\n    \\midrule\n".join("\n".join(group) for group in groups if group),
    )


def best(found: Findings, scope: str) -> list[str]:
    """The method with the highest skill, then, overall, all that cannot be told from it on these problems."""
    board = found.boards[scope]
    ranked = board.loc[board["skill"].notna(), "method"].tolist()
    if scope != "overall" or found.pairs.empty:
        return ranked[:1]
    alike = [m for best in ranked[:1] for m in beside(found.pairs, best)]
    return [m for m in ranked if m in {*alike, *ranked[:1]}]


def escaped(text: str) -> str:
    """Any text as LaTeX prints it: no letter of it is a command, and none ends the line."""
    plain = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text)
    return "".join(SPECIAL.get(char, char) for char in plain)


def _cells(row: "pd.Series[Any]", ends: tuple[str, str] | None, bold: bool) -> dict[str, str]:
    """One method, by heading."""
    name = escaped(str(row["method"]))
    name = rf"\textit{{{name}}}" if row["control"] else name
    skill = _number(row["skill"], 3)
    low, high = (_number(row[end], 3) for end in ends) if ends else (UNKNOWN, UNKNOWN)
    interval = UNKNOWN if UNKNOWN in (low, high) else rf"{{\scriptsize {low} to {high}}}"
    if bold:
        name, skill = rf"\textbf{{{name}}}", rf"\textbf{{{skill}}}"
    last = (_number(row["faithfulness"], 2), _number(row["agreement"], 2), _time(row["seconds_per_row"]))
    return dict(zip(COLUMNS, (_number(row["rank"], 0), name, skill, interval, *last), strict=True))


def _number(value: Any, digits: int) -> str:
    """A number with a minus sign that is no hyphen."""
    known = pd.to_numeric(value, errors="coerce")
    return f"{known:.{digits}f}".replace("-", "$-$") if pd.notna(known) else UNKNOWN


def _time(seconds: Any) -> str:
    """Seconds as milliseconds in three digits and without powers of ten."""
    known = 1000 * pd.to_numeric(seconds, errors="coerce")
    if pd.isna(known):
        return UNKNOWN
    if known >= 100:
        return f"{known:,.0f}"
    return f"{known:.3g}" if known >= 0.001 else "$<$0.001"


def _label(name: str, scope: str) -> str:
    """What the table is referred to by."""
    return "tab:" + re.sub(r"[^a-z0-9]+", "-", f"assay-{name}-{scope}".lower()).strip("-")


def _caption(found: Findings, scope: str, ends: tuple[str, str] | None, bold: list[str]) -> str:
    """What is shown, what the numbers mean, and what the type does."""
    scores = found.tables.scores
    one = scores if scope == "overall" else scores[scores["dataset"] == scope]
    problems = len(one[lead.CLUSTER].drop_duplicates())
    of = f"suite {escaped(found.name)}" + (f", dataset {escaped(scope)}" if scope != "overall" else "")
    text = [f"Leaderboard of {of}, over {problems} problem{'s' * (problems != 1)}."]
    if lead.judge(one) == lead.RANKED_BY:
        text.append("Skill is 0 for a random attribution and 1 for the exact one.")
    else:
        text.append("Skill is 0 for a random attribution and 1 for what the model was measured to rely on.")
    if ends:
        where = "on problems like these" if ends[0] == "low" else "on these problems, drawn again"
        text.append(rf"Intervals are 95\%, of the mean skill {where}.")
    if found.boards[scope]["faithfulness"].notna().any():
        text.append("Faithfulness is skill by metrics that ask the model alone.")
    if found.boards[scope]["agreement"].notna().any():
        text.append("Agreement is with the other methods' maps; it is not correctness.")
    text += _about_bold(found, scope, bold)
    if found.boards[scope]["control"].any():
        text.append("Italics: controls, which cannot know the model.")
    return " ".join(text)


def _about_bold(found: Findings, scope: str, bold: list[str]) -> list[str]:
    """Which methods are in bold."""
    if len(bold) > 1:
        return ["Bold: the best, and those that cannot be told from it on these problems."]
    if bold and scope == "overall" and len(found.pairs):
        return ["Bold: the best; on these problems it can be told from every other."]
    return ["Bold: the best."] if bold else []
