"""The commands that read results: report, trust, compare, merge, submit."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .registry import AssayError
from .screen import complain, console, program

if TYPE_CHECKING:
    from .findings import Findings
    from .finished import Told
    from .screen import Console

REGRESSION = "--fail-on-regression"
ANY = "skill>0"
REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
BOARD = Path("results") / "LEADERBOARD.md"

app = typer.Typer()

Folder = Annotated[Path, typer.Argument(help="A results folder.")]
Folders = Annotated[list[Path], typer.Argument(help="Results folders, or files called scores.csv.")]


def with_regression(words: list[str]) -> list[str]:
    """The command line with what `--fail-on-regression` means where nothing is said."""
    found = list(words)
    for i, word in enumerate(words):
        if word == REGRESSION and not (i + 1 < len(words) and ">" in words[i + 1]):
            found[i] = f"{REGRESSION}={ANY}"
    return found


@app.command()
def report(
    results: Folder,
    html: Annotated[bool, typer.Option("--html", help="One page with everything: report.html.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="A table for a paper: leaderboard.tex.")] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Every table behind the report, as tables/*.csv.")
    ] = False,
    png: Annotated[
        bool, typer.Option("--png", help="All charts at 200 dots an inch, as charts/*.png.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write these; RESULTS by default.")] = None,
) -> None:
    """Make the tables of a results folder again, and what else is asked for."""
    from . import findings
    from .finished import told
    from .report import write
    from .store import FILE

    wanted = {"html": html, "latex": latex, "csv": csv, "png": png}
    if out is not None and not any(wanted.values()):
        raise AssayError("--out says where the page and the exports go; add --html, --latex, --csv or --png.")
    if not any(wanted.values()):
        show_board(console(), told(write(results)), results)
        return
    found = write(results) if (results / FILE).is_file() else findings.find(results)
    for path in _exported(found, wanted, out or results):
        console().out(str(path), highlight=False)


def _exported(found: "Findings", wanted: dict[str, bool], folder: Path) -> list[Path]:
    """Write what is wanted; the files."""
    from . import html, latex, plots, results
    from .store import write_atomically
    from .writing import writing

    written = []
    with writing(folder):
        if wanted["html"]:
            written.append(folder / "report.html")
            html.write(found, written[-1])
        if wanted["latex"]:
            written.append(folder / "leaderboard.tex")
            write_atomically(written[-1], latex.latex(found))
    written += results.csv(found, folder / "tables") if wanted["csv"] else []
    written += plots.draw(found, folder) if wanted["png"] else []
    return written


def show_board(screen: "Console", told: "Told", folder: Path) -> None:
    """The leaderboard, what it says, and where the rest of it is."""
    from .terminal import show_rows

    show_rows(screen, told.columns, told.rows, "Leaderboard: skill, 0 is chance and 1 is the exact answer")
    for sentence in told.overview:
        screen.out(f"\n{sentence}", highlight=False)
    if told.qualified:
        screen.out(f"\nReasons for what is skipped, failed or qualified: {folder / 'leaderboard.md'}")
    screen.out(
        f"\nTables: {folder / 'leaderboard.md'}, leaderboard.csv, scores.csv, agreement.csv, costs.csv"
    )
    if (folder / "gallery.png").is_file():
        screen.out(f"Pictures of what the methods saw: {folder / 'gallery.png'}")
    screen.out(f"All of it on one page, with charts: {program()} report {shlex.quote(str(folder))} --html")


@app.command()
def trust(
    results: Folder,
    method: Annotated[
        list[str] | None, typer.Option(help="Of these alone; written only with --out; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; RESULTS by default.")] = None,
) -> None:
    """Say which metrics that need no truth rank the methods as the truth does."""
    from . import trust as trusting
    from .terminal import show

    found = trusting.load_trust(results, method or [])
    screen = console()
    show(screen, trusting.display(found), "Kendall's tau with the ground truth: 0 is chance, 1 its ranking")
    screen.out(f"\n{trusting.section(found)[-1]}", highlight=False)
    if method and out is None:
        return  # the folder's own tables are of all methods
    trusting.write(found, out or results)
    screen.out(f"\nTables: {(out or results) / 'trust.md'}, trust.csv")


@app.command()
def compare(
    results: Folders,
    fail_on_regression: Annotated[
        list[str] | None,
        typer.Option(
            REGRESSION,
            metavar="[METRIC>DELTA]",
            help="Exit with 3 when a method got worse: against the truth, or in METRIC by more than DELTA.",
        ),
    ] = None,
    baseline: Annotated[
        str,
        typer.Option(
            help="A folder to compare all with, or `reference`: the committed results of the suite."
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Where to write; the last of the folders by default.")
    ] = None,
) -> None:
    """Say what moved from the first to each of the others, and whether it is more than noise."""
    from . import compare as comparing
    from . import comparison
    from .terminal import show

    limits = [_limit(text) for text in fail_on_regression or []]
    folders = [_baseline(baseline, results[0]), *results] if baseline else results
    if len(folders) < 2:
        raise AssayError(
            f"one folder, {str(folders[0])!r}, cannot be compared; give two, or --baseline reference."
        )
    screen, found = console(), []
    for other in folders[1:]:
        found.append(comparing.compare(folders[0], other))
        shown = found[-1]
        show(
            screen, comparison.display(shown.methods), f"Skill in B = {other} minus skill in A = {folders[0]}"
        )
        for title, frame in comparison.sections(shown).items():
            if len(frame):
                show(screen, frame, title)
        screen.out(f"\n{comparison.summary(shown)}", highlight=False)
    target = out or comparing.folder_of(folders[-1])
    comparison.write(found, target)
    screen.out(f"\nTables: {target / 'comparison.md'}, comparison.csv, comparison.html")
    worse = dict.fromkeys(m for one in found for name, delta in limits for m in one.regressions(name, delta))
    lost = dict.fromkeys(m for one in found if limits for m in one.lost if m not in worse)
    said = {"worse than before": worse, "failed, or no longer comparable": lost}
    if worse or lost:
        told = "; ".join(f"{what}: {', '.join(names)}" for what, names in said.items() if names)
        raise typer.Exit(complain(f"{told}.", 3))


def _limit(text: str) -> tuple[str, float]:
    """The metric and the drop in it that is too large, from METRIC>DELTA."""
    metric, _, delta = (part.strip() for part in text.rpartition(">"))
    try:
        limit = float(delta)
    except ValueError:
        limit = float("nan")
    if not metric or not 0 <= limit < float("inf"):
        raise AssayError(f"{REGRESSION} cannot be {text!r}; give METRIC>DELTA, as auroc>0.02, or nothing.")
    return metric, limit


def _baseline(given: str, other: Path) -> Path:
    """The folder that all are compared with."""
    from .compare import folder_of
    from .manifest import read

    if given != "reference":
        return Path(given)
    suite = str(read(folder_of(other)).get("suite", ""))
    known = sorted(p.name for p in REFERENCE.iterdir() if p.is_dir()) if REFERENCE.is_dir() else []
    if suite not in known:
        raise AssayError(
            f"{str(other)!r} is of suite {suite or 'not known'!r}, of which no results are committed; give "
            f"--baseline FOLDER{', or a run of ' + ', '.join(known) if known else ''}."
        )
    return REFERENCE / suite


@app.command()
def merge(
    results: Annotated[list[Path], typer.Argument(help="Results folders of one suite.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new results folder.")],
) -> None:
    """Join runs of one suite that were made on several machines."""
    from . import merge as merging
    from .finished import told
    from .report import write

    joined = merging.merge(results, out)
    screen = console()
    show_board(screen, told(write(out)), out)
    screen.out(f"\n{joined.told}", highlight=False)


@app.command()
def submit(
    results: Folder,
    name: Annotated[str, typer.Option(help="Who ran it, and where; the folder's name by default.")] = "",
    board: Annotated[Path, typer.Option(help="The table to add a row to.")] = BOARD,
) -> None:
    """Check that a results folder is complete and unchanged, and add it to the public leaderboard."""
    from . import submit as submitting

    console().out(submitting.submit(results, board, name).told, highlight=False)
