"""How far a fact is spread over the tree: files that mention it, at any revision of the repository.

``python -m edgefusion.benchmarks.structure [REV...]`` prints a column a revision (default: HEAD).
Counts are of git's tracked Python files; documents, target files and tests are counted apart.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

FACTS: Mapping[str, str] = {
    "GLU": r"\b(GE)?GLU\b|\bge?glu\b|\bGlu\b",
    "a function (softplus)": r"\bsoftplus\b|\bSoftplus\b",
    "a normalisation (layer_norm)": r"layer_?norm(alization)?\b",
    "engines by name": (
        r"\b(dma|tensor|vector)_engines\b|\b(dma|tensor|vector|host)_busy_ps\b"
        r"|EngineKind\.(DMA|TENSOR|VECTOR)\b"
    ),
    "branches on an op kind": r"\bop\.kind (==|!=|in|not in) [\"(_A-Z]|\bop\.attrs\b",
    "a scale that is a signal": r"\bscale (==|<|<=|>) 0(\.0)?\b|scales?\[0\] (==|!=) ROW_NORM",
}
"""Patterns, searched without regard to case."""


def read_files(revision: str) -> dict[str, str]:
    """Tracked text files of ``revision`` by path."""
    names = _git("ls-tree", "-r", "--name-only", revision).splitlines()
    wanted = [n for n in names if n.endswith((".py", ".md", ".toml")) and ".namespace" not in n]
    return {name: _git("show", f"{revision}:{name}") for name in wanted}


def counts(files: Mapping[str, str]) -> dict[str, str]:
    """A row a fact: source files (+ documents and targets, + tests) that mention it; then lines."""
    others = {name: text for name, text in files.items() if "structure.py" not in name}
    rows = {}
    for label, pattern in FACTS.items():
        search = re.compile(pattern, re.IGNORECASE).search
        found = [name for name, text in others.items() if search(text)]
        tests = sum(name.startswith("tests/") for name in found)
        source = sum(name.endswith(".py") for name in found) - tests
        rows[label] = f"{source} + {len(found) - source - tests} + {tests}"
    for folder in ("runtime", "compiler", "passes", "models", "toolchain", "edgefusion", "tests"):
        lines = [
            text.count("\n")
            for name, text in files.items()
            if name.startswith(f"{folder}/") and name.endswith(".py")
        ]
        rows[f"lines of {folder}/"] = f"{sum(lines):,} in {len(lines)} files"
    total = sum(text.count("\n") for name, text in files.items() if name.endswith(".py"))
    rows["lines in all"] = f"{total:,}"
    return rows


def main(revisions: Sequence[str]) -> None:
    """Print the table."""
    columns = {revision: counts(read_files(revision)) for revision in revisions or ("HEAD",)}
    print(f"{'':32}" + "".join(f"{revision:>24}" for revision in columns))
    for row in next(iter(columns.values())):
        print(f"{row:32}" + "".join(f"{column[row]:>24}" for column in columns.values()))


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(sys.argv[1:])
