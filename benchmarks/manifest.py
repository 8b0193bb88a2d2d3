"""manifest.json: how a results folder was made."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .device import current
from .grid import REGISTRIES
from .store import write_atomically
from .suite import Suite

PACKAGES = ("assay-xai", "torch", "captum", "shap", "numpy", "pandas", "scipy", "scikit-learn")


def begin(folder: Path, suite: Suite, command: list[str], jobs: int) -> dict[str, Any]:
    """Write what is known before the first cell, and hand it back for `finish`."""
    config = suite.model_dump()
    made = {
        "suite": suite.name,
        "command": shlex.join(command),
        "seeds": suite.seeds,
        "config": config,
        "config_hash": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16],
        "plugins": _plugin_versions(),
        "versions": {"python": platform.python_version(), **_package_versions()},
        "git_commit": _git_commit(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "jobs": jobs,
            "device": str(current()),
        },
        "start": _now(),
        "end": None,
    }
    _write(folder, made)
    return made


def finish(folder: Path, made: dict[str, Any]) -> None:
    """Write the manifest again, with the end."""
    _write(folder, {**made, "end": _now()})


def _write(folder: Path, made: dict[str, Any]) -> None:
    write_atomically(folder / "manifest.json", json.dumps(made, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plugin_versions() -> dict[str, dict[str, str]]:
    """Version of every plug-in that is loaded."""
    return {kind: registry.versions() for kind, registry in REGISTRIES.items()}


def _package_versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git_commit() -> str:
    """Commit of the checkout that this runs from, marked when changed since; empty outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{commit}-changed" if changed else commit


def _git(*words: str) -> str:
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
