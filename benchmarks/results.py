"""Results for notebooks and other programs: one object, and every table behind the report as a file."""

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from . import accord, findings, report
from . import leaderboard as lead
from . import trust as trusting
from .findings import Findings
from .leaderboard import Tables
from .registry import AssayError, near_miss
from .spec import parse
from .store import COLUMNS, write_atomically
from .writing import writing

BY = {  # what a leaderboard can be taken apart by: the columns that say which block a row is of
    "noise": ["dataset", "noise"],  # a level of one dataset is none of another
    "model": ["model"],
    "metric": ["metric"],
    "dataset": ["dataset"],
    "method": ["plugin"],
}
SHOWN = 30  # methods in a notebook's table


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """One results folder, for notebooks.

    folder: where it is.
    tables: as they were read; change none of them.
    """

    folder: Path
    tables: Tables

    @property
    def scores(self) -> pd.DataFrame:
        """One row a cell: value, chance, ceiling, skill, status and more."""
        return self.tables.scores

    @cached_property
    def findings(self) -> Findings:
        """All that the report says; computed when first asked for."""
        return findings.find(self.folder)

    def agreement(self, metric: str = "spearman") -> pd.DataFrame:
        """Mean agreement of every two methods, 0 for two random maps and 1 for equal ones.

        Returns:
            Method by method; without rows where none was computed.
        """
        return accord.agreement_matrix(self.tables.agreement, metric)

    def leaderboard(self, by: str | None = None) -> pd.DataFrame:
        """Mean skill of every method with its intervals and rank, best first.

        `low` and `high` end the 95% interval on problems like these (NaN below three problems), `low_here`
        and `high_here` that on these problems, `rank_low` and `rank_high` that of the rank.

        Args:
            by: None, for the report's leaderboard, with all its columns.  `noise`, `model`, `metric` or
                `dataset`: tidy, a block of rows for every level, which the first columns name (`dataset` and
                `noise` for noise); ranks and means are over the cells that all methods share within it.
                `method`: a block for every plug-in (column `plugin`), in which its variants are compared.

        Raises:
            AssayError: nothing can be taken apart by that.
        """
        if by is None:
            return lead.leaderboard(self.tables, "overall")
        if by not in BY:
            raise AssayError(f"no leaderboard is by {by!r}.{near_miss(by, BY)}")
        wide = lead.skills(self.scores, lead.judge(self.scores))
        blocks = []
        for level, part in _blocks(wide, by):
            board = lead.summary(part, "\n".join([by, *level])).dropna(subset=["skill"])
            board = board.sort_values(["skill", "method"], ascending=[False, True])
            for place, (column, value) in enumerate(zip(BY[by], level, strict=True)):
                board.insert(place, column, value)
            blocks.append(board)
        return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=[*BY[by], "method"])

    def __repr__(self) -> str:
        scores = self.scores
        count = f"{scores['method'].nunique()} methods, {scores['dataset'].nunique()} datasets"
        return f"Results({str(self.folder)!r}: {count}, {len(scores):,} scores)"

    def _repr_html_(self) -> str:
        found = self.findings
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in found.overview)
        shown = report.display(found.boards["overall"])
        table = shown.head(SHOWN).to_html(index=False, escape=True, border=0)
        more = f"<p>and {len(shown) - SHOWN} more methods</p>" if len(shown) > SHOWN else ""
        return f"<div><p><strong>{html.escape(repr(self))}</strong></p>{said}{table}{more}</div>"


def load(folder: str | Path) -> Results:
    """The results in a folder that a run wrote to; nothing in it is changed.

    Raises:
        AssayError: there are none, or they cannot be read.
    """
    path = Path(folder).expanduser()
    return Results(path, findings.load(path))


def _blocks(wide: pd.DataFrame, by: str) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Levels, and of the frame of cells and methods what is of each."""
    if by != "method":
        grouped = wide.groupby(level=BY[by], sort=False)
        return [(tuple(map(str, level)), part) for level, part in grouped]
    names = {method: parse(str(method))[0] for method in wide}
    parts = [(name, wide[[m for m in wide if names[m] == name]]) for name in dict.fromkeys(names.values())]
    return [((name,), part.dropna(how="all")) for name, part in parts]


def frames(found: Findings) -> dict[str, pd.DataFrame]:
    """Every table behind the report that has rows, by the name of its file; none is one of the ledger's."""
    mine = Results(found.folder, found.tables)
    made = {
        "leaderboard": found.board,
        **{f"leaderboard_by_{by}": mine.leaderboard(by) for by in ("noise", "model", "metric")},
        "pairs": found.pairs,
        **_tests(found),
        **{name: getattr(found, name) for name in ("profiles", "curves", "breakdowns", "variance", "errors")},
        "agreement_matrix": found.agreement.rename_axis("method").reset_index(),
        "trust": trusting.tidy(found.trust) if found.trust is not None else pd.DataFrame(),
        "costs_per_row": lead.cost_table(found.tables.costs),
        "reasons": lead.reasons(found.tables.scores),
    }
    if found.shortcuts:
        parts = [methods.assign(metric=metric) for metric, methods in found.shortcuts.items()]
        made["shortcuts"] = pd.concat(parts, ignore_index=True)
    return {name: frame for name, frame in made.items() if not frame.empty and name not in COLUMNS}


def _tests(found: Findings) -> dict[str, pd.DataFrame]:
    """Ranks and interquartile means, tests of every two methods, and the one of all."""
    told = found.significance
    iqm = found.iqm.rename("interquartile_mean").rename_axis("method").reset_index()
    if told is None:
        return {"ranks": iqm}
    ranks = told.mean_ranks.rename("mean_rank").rename_axis("method").reset_index()
    alike = [(number, method) for number, clique in enumerate(told.cliques, 1) for method in clique]
    whole = ("friedman_statistic", "friedman_p", "blocks", "critical_difference")
    return {
        "ranks": ranks.merge(iqm, on="method", how="outer", sort=False),
        "tests": told.pairs,
        "friedman": pd.DataFrame([{name: getattr(told, name) for name in whole}]),
        "cliques": pd.DataFrame(alike, columns=["clique", "method"]),
    }


def csv(found: Findings, folder: Path) -> list[Path]:
    """Write every table behind the report that has rows as a CSV file.

    Returns:
        The files, in the order of the report.

    Raises:
        AssayError: they cannot be written.
    """
    written = []
    with writing(folder):
        for name, frame in frames(found).items():
            written.append(folder / f"{name}.csv")
            write_atomically(written[-1], frame.to_csv(index=False))
    return written
