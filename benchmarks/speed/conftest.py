"""After the timings: those that do the same thing, side by side, as ratios within this one run."""

from collections import defaultdict

from tabulate import tabulate


def pytest_terminal_summary(terminalreporter):
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    groups = defaultdict(list)
    for bench in session.benchmarks if session else []:
        if "rows" in bench.extra_info:
            groups[bench.group].append(bench)
    for group, benches in groups.items():
        each = [bench.stats.median / bench.extra_info["rows"] for bench in benches]
        table = [
            [
                bench.extra_info["who"],
                f"{1000 * seconds:.3g}",
                f"{seconds / each[0]:,.1f}",
                bench.extra_info.get("error", ""),
            ]
            for bench, seconds in zip(benches, each, strict=True)
        ]
        terminalreporter.write_sep("-", group)
        headers = ["who", "ms a row", "times the first", "error to exact Shapley values"]
        terminalreporter.write_line(tabulate(table, headers, disable_numparse=True))
