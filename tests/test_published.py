"""What the README shows is what was measured, and the committed tables say how they were made."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from assay.benchmarks import leaderboard, report

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "results" / "reference" / "quick"


def test_the_readme_shows_the_committed_leaderboard():
    block = re.search(r"<!-- leaderboard[^>]*-->\n(.*?)\n<!--", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    section = (QUICK / "leaderboard.md").read_text().split("## Overall")[1].split("##")[0]
    assert block[1].strip() in section


def test_the_committed_leaderboard_follows_from_the_committed_scores():
    scores = report.read_table(QUICK, "scores")
    again = leaderboard.summary(leaderboard.skills(scores, leaderboard.RANKED_BY), "overall")
    board = pd.read_csv(QUICK / "leaderboard.csv")
    board = board[board["scope"] == "overall"].set_index("method")
    for row in again.itertuples():
        for column in ("skill", "low", "high", "rank"):
            assert board.loc[row.method, column] == pytest.approx(getattr(row, column), abs=1e-9, nan_ok=True)


def test_the_manifest_says_how_the_tables_were_made():
    made = json.loads((QUICK / "manifest.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", made["git_commit"])  # a clean commit, nothing changed since
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    for package in ("torch", "captum", "shap", "numpy"):
        assert made["versions"][package].split("+")[0] == pins[package]
