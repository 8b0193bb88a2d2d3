"""Kept times -> the tables of docs/speed.md, so that nobody types a number.

    python benchmarks/speed/times.py [FILE.json]

Without a file, the newest under results/speed.
"""

import json
import sys
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[2]
PAGE, KEPT = ROOT / "docs" / "speed.md", ROOT / "results" / "speed"
BEGIN, END = "<!-- times -->", "<!-- end of times -->"
OWN = {"who", "rows", "error"}  # what those that do the same are compared by
SHORT = 60  # characters of a detail


def newest():
    """The file that was kept last."""
    found = sorted(KEPT.glob("**/*.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit("error: no times are kept under results/speed; run `make speed` first.")
    return found[-1]


def told(seconds):
    """A time as people read it."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def detail(name, value):
    """What is known beside the time."""
    if isinstance(value, float):
        return f"{name} {value:.3g}"
    return f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"


def line(bench, first):
    """One row of a table: who, time, and beside peers the time of a row as a multiple of the first one's."""
    info, median = bench["extra_info"], bench["stats"]["median"]
    name = info.get("who") or bench["param"] or bench["name"].removeprefix("test_").replace("_", " ")
    more = [detail(key, value) for key, value in info.items() if key not in OWN and key != "parameters"]
    more = [text for text in more if len(text) <= SHORT]
    if "rows" in info:
        each = median / info["rows"]
        more.insert(0, f"{told(each)} a row, {each / first:,.1f} times the first")
    if "error" in info:
        more.append(f"error {info['error']}")
    return [name, told(median), bench["stats"]["rounds"], "; ".join(more)]


def page(kept):
    """The tables of all groups, and of which machine they are."""
    machine, commit = kept["machine_info"], kept["commit_info"]
    cpu = machine.get("cpu", {})
    about = f"{cpu.get('brand_raw', machine.get('machine', ''))}, {cpu.get('count', '?')} cores, "
    about += f"{machine['system']}, Python {machine['python_version']}"
    changed = ", with changes" if commit.get("dirty") else ""
    parts = [f"{about}; commit {commit.get('id', 'unknown')[:12]}{changed}; {kept['datetime'][:10]}."]
    groups = {}
    for bench in kept["benchmarks"]:
        module = bench["fullname"].partition("::")[0].rpartition("test_")[2].removesuffix(".py")
        groups.setdefault(bench["group"] or module, []).append(bench)
    for group, benches in groups.items():
        rows = benches[0]["extra_info"].get("rows", 1)
        first = benches[0]["stats"]["median"] / rows
        table = tabulate(
            [line(bench, first) for bench in benches],
            ["what", "median", "rounds", "beside"],
            "github",
            disable_numparse=True,
        )
        parts += [f"### {group[:1].upper()}{group[1:]}", table]
    return "\n\n".join(parts)


def main():
    """Write the tables between their marks."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else newest()
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    tables = page(json.loads(file.read_text(encoding="utf-8")))
    PAGE.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
