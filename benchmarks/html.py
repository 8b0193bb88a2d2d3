"""Findings -> one page that opens from disk: no network, nothing beside it, every text escaped."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from . import breakdown, payload, shortcuts, trust
from . import leaderboard as lead
from .charts import charts, panel_label
from .diagrams import MOST
from .findings import Findings
from .provenance import mapping
from .store import write_atomically

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 3_000_000  # bytes of a gallery, in the page a third more
NARROWER = (1200, 900, 700, 500)  # pixels, of one that is larger
WHY = {  # the ends without a score, the worst first, and what they mean where no reason is recorded
    "failed": "the cell raised an error",
    "skipped": "the parts do not fit together",
    "broken": "the metric prefers noise to the truth here",
    "undefined": "the metric has no value on any row",
    "trivial": "no attribution could be wrong here",
    "unlearned": "the model learned nothing, so its explanations do not count",
}


def write(found: Findings, path: Path) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, render(found))


def render(found: Findings) -> str:
    """The whole page as text."""
    drawn = charts(found)
    tables = _tables(found)
    data = {
        "board": payload.board(found.tables.scores, found.boards["overall"]),
        "charts": {name: _chart(chart) for name, chart in drawn.items()},
        "tables": {name: _columns(frame) for name, frame in tables.items()},
    }
    page = environment().get_template("report.html")
    return page.render(
        name=found.name,
        title=str(mapping(found.made, "config").get("title", "")),
        overview=[marked(sentence) for sentence in found.overview],
        facts=_facts(found),
        charts=drawn,
        tables=tables,
        shortcuts={metric: _lines(shortcuts.in_words(rows)) for metric, rows in found.shortcuts.items()},
        trust=found.trust,
        left_out=len(found.boards["overall"]) > MOST and MOST,
        gallery=gallery(found.folder / "gallery.png"),
        provenance=_provenance(found.made),
        command=str(found.made.get("command", "")),
        bibtex=bibtex(found.name, found.made),
        how={"trust": trust.HOW_TO_READ, "breakdowns": breakdown.HOW_TO_READ.replace("`", "")},
        data=_safe(payload.script(data)),
        style=_safe(template("report.css")),
        script=_safe(template("report.js")),
        bundle=_safe(_bundle()),
    )


@cache
def environment() -> "Environment":
    """Of our pages: whatever is shown is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(autoescape=True, loader=FileSystemLoader(TEMPLATES), **options)


def template(name: str) -> str:
    """A file of the pages as text."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed; not run before the first chart comes into view."""
    import vl_convert

    make: Any = vl_convert.javascript_bundle  # its stub asks for an argument that it does not need
    bundle = str(make())
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _safe(text: str) -> "Markup":
    """Our own text, or one that is escaped already."""
    from markupsafe import Markup

    return Markup(text)


def marked(sentence: str) -> "Markup":
    """A sentence with what stands between backticks as code, all of it escaped."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in sentence.split("`")]
    if len(parts) % 2 == 0:  # a backtick without its partner is one of a name
        return escape(sentence)
    wrapped = [Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)]
    return Markup("").join(wrapped)


def _lines(text: str) -> "list[Markup]":
    return [marked(line.removeprefix("* ")) for line in text.splitlines()]


def _chart(chart: Any) -> dict[str, Any]:
    return {"spec": chart.spec, "panels": chart.panels, "rows": _columns(chart.rows)}


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame, a column a list."""
    return {str(name): payload.plain(frame[name], 5) for name in frame}


def _tables(found: Findings) -> dict[str, pd.DataFrame]:
    """The tables beside the leaderboard, by name; one that has no rows is left out."""
    reasons = _reasons(found.tables.scores)
    made = {
        "breakdowns": _breakdowns(found.breakdowns),
        "pairs": _pairs(found),
        "trust": trust.display(found.trust) if found.trust is not None else pd.DataFrame(),
        **{f"shortcuts {metric}": shortcuts.display(rows) for metric, rows in found.shortcuts.items()},
        "variance": found.variance.dropna(axis=1, how="all"),
        "errors": _errors(found.errors),
        "reasons": reasons,
        "models": _models(found.tables.models),
    }
    return {name: frame for name, frame in made.items() if len(frame)}


def _errors(found: pd.DataFrame) -> pd.DataFrame:
    """Where every method's error comes from, with the metrics' setting where there is one."""
    plain = ["setting"] if "setting" in found and not (found["setting"] != "").any() else []
    return found.drop(columns=plain).dropna(axis=1, how="all")


def _breakdowns(found: pd.DataFrame) -> pd.DataFrame:
    """At which noise level half of a method's skill is left, with the name that the curves' panel has."""
    if found.empty:
        return found
    shown = breakdown.display(found)
    places = shown[breakdown.PLACE].fillna("").astype(str)
    where = [panel_label(*place) for place in places.itertuples(index=False)]
    return shown.drop(columns=breakdown.PLACE).assign(where=where)


def _pairs(found: Findings) -> pd.DataFrame:
    """Every two of the best methods, with what each test says: of thousands there are millions of pairs."""
    if found.pairs.empty:
        return found.pairs
    best = found.boards["overall"]["method"][:MOST]
    chosen = found.pairs[found.pairs["a"].isin(best) & found.pairs["b"].isin(best)]
    shown = chosen[["a", "b", "difference", "low", "high", "better"]].rename(
        columns={"better": "P(a beats b)"}
    )
    if found.significance is None:
        return shown
    tests = found.significance.pairs
    columns = {"wins": "wins", "ties": "ties", "losses": "losses", "rank_biserial": "rank biserial"}
    columns |= {"p_holm": "p (Wilcoxon, Holm)", "p_nemenyi": "p (Nemenyi)"}
    turned = tests.rename(columns={"a": "b", "b": "a", "wins": "losses", "losses": "wins"})
    turned = turned.assign(rank_biserial=-turned["rank_biserial"])
    both = pd.concat([tests, turned])[["a", "b", *columns]].drop_duplicates(["a", "b"])
    return shown.merge(both.rename(columns=columns), on=["a", "b"], how="left")


def _reasons(scores: pd.DataFrame) -> pd.DataFrame:
    """Every cell without a score, by why; and how many."""
    said = scores[scores["status"].isin(list(WHY))].fillna({"reason": ""})
    if said.empty:
        return pd.DataFrame()
    by = ["status", "reason", "method"]
    models = said.groupby(by, sort=False)["model"].agg(lambda m: ", ".join(dict.fromkeys(m)))
    found = models.to_frame("models").assign(cells=said.groupby(by, sort=False).size()).reset_index()
    found["order"] = found["status"].map({status: i for i, status in enumerate(WHY)})
    found["reason"] = found["reason"].where(found["reason"] != "", found["status"].map(WHY))
    found = found.sort_values(["order", "cells"], ascending=[True, False]).drop(columns="order")
    return found[["status", "cells", "method", "reason", "models"]]


def _models(models: pd.DataFrame) -> pd.DataFrame:
    """How well each model predicts; columns that nobody has are left out."""
    if models.empty:
        return models
    return (
        lead.model_table(models).dropna(axis=1, how="all").rename(columns=lambda c: str(c).replace("_", " "))
    )


def _facts(found: Findings) -> list[str]:
    """One line of numbers beneath the title."""
    scores, made = found.tables.scores, found.made
    counts = {
        "score": len(scores),
        "method": scores["method"].nunique(),
        "problem": len(scores[lead.CLUSTER].drop_duplicates()),
        "seed": scores["seed"].nunique(),
    }
    facts = [f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in counts.items()]
    return [*facts, *([str(made["end"])[:10]] if made.get("end") else [])]


def gallery(path: Path) -> str:
    """A gallery as a data address, smaller where it is too large; empty where there is none."""
    if not path.is_file():
        return ""
    data, kind = path.read_bytes(), "png"
    if len(data) > LARGEST:
        data, kind = _smaller(data), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _smaller(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    for width in NARROWER:
        size = (
            min(width, picture.width),
            max(1, round(picture.height * min(width, picture.width) / picture.width)),
        )
        out = io.BytesIO()
        picture.resize(size).save(out, "JPEG", quality=80, optimize=True)
        if out.tell() <= LARGEST:
            break
    return out.getvalue()


def _provenance(made: dict[str, Any]) -> list[tuple[str, str]]:
    """How the results were made, a fact a line."""
    lines = {
        "suite": made.get("suite"),
        "engine": made.get("engine"),
        "commit": made.get("git_commit"),
        "configuration": made.get("config_hash"),
        "started": made.get("start"),
        "ended": made.get("end") or ("unfinished" if made else ""),
        "machine": made.get("machine"),
        "versions": made.get("versions"),
        **{f"{kind} versions": named for kind, named in mapping(made, "plugins").items()},
        "cells": made.get("cells"),
        "SHA-256 of tables": made.get("tables"),
    }
    return [(key, _listed(value)) for key, value in lines.items() if value]


def _listed(value: Any) -> str:
    """What a manifest has in one place, in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_listed(inner)}" for key, inner in value.items())
    return str(value)


def bibtex(name: str, made: dict[str, Any]) -> str:
    """An entry for these results."""
    commit, end = str(made.get("git_commit") or ""), str(made.get("end") or "")
    key = "".join(c if c.isalnum() else "-" for c in name)
    note = f"commit {commit[:12]}, configuration {made.get('config_hash', '')}" if commit else ""
    fields = {"title": f"{{Assay}}: results of the suite {_tex(name)}", "year": end[:4], "note": note}
    lines = [f"  {field} = {{{text}}}," for field, text in fields.items() if text]
    return "\n".join([f"@misc{{assay-{key},", "  author = {{Assay contributors}},", *lines, "}"])


def _tex(text: str) -> str:
    """A name that TeX takes as it is."""
    return "".join(f"\\{c}" if c in "&%$#_{}" else c for c in text)
