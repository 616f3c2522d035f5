"""What the packages import is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PRODUCT = ("compiler", "edgefusion", "passes", "runtime", "toolchain", "benchmarks")
MODELS = ("models",)
TESTS = ("tests",)
TOOLS = ("explore",)
OPTIONAL = ("train", "inception", *TOOLS)
DEVELOPMENT = (*OPTIONAL, "dev", "docs", "oracle")
NO_DISTRIBUTION = {"serializer", "tosa", "tosa_reference_model"}
"""Built from source (benchmarks/README.md)."""
RUN_BY_PYTEST = "pytest_plugin.py"
"""Nothing but pytest imports it, so pytest is there."""
LOADED_BY_OTHERS = {
    "onnxscript": "torch.onnx",
    "sentencepiece": "transformers",
    "tensorboard": "torch.utils.tensorboard",
    "torch-fidelity": "torchmetrics",
}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def declared(repository_root: Path, *extras: str) -> frozenset[str]:
    """Names of distributions: the dependencies, and those of ``extras``."""
    project = tomllib.loads((repository_root / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in extras for line in optional[name])]
    return frozenset(normalised(re.split(r"[\[<>=!~ ;]", line)[0]) for line in lines)


def imported(folders: Iterable[Path]) -> dict[str, str]:
    """Top-level packages of third parties, each with a file that imports it."""
    found: dict[str, str] = {}
    for file in (file for folder in folders for file in folder.rglob("*.py")):
        if file.name == RUN_BY_PYTEST:
            continue
        script = not (file.parent / "__init__.py").exists()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in (name.partition(".")[0] for name in names):
                beside = script and (file.parent / f"{top}.py").exists()
                if top not in sys.stdlib_module_names | {"edgefusion", "tests"} and not beside:
                    found.setdefault(top, str(file))
    return found


def undeclared(found: dict[str, str], allowed: frozenset[str]) -> list[str]:
    """Packages that no allowed distribution brings; one that is not installed is known by name."""
    homes = packages_distributions()
    return [
        f"{top} (in {file}), from {' or '.join(homes.get(top, [top]))}"
        for top, file in sorted(found.items())
        if not allowed & {normalised(name) for name in homes.get(top, [top])}
    ]


@pytest.mark.parametrize(
    ("folders", "extras"), [(PRODUCT, TOOLS), (MODELS, OPTIONAL), (TESTS, DEVELOPMENT)]
)
def test_what_is_imported_is_declared(
    repository_root: Path, folders: tuple[str, ...], extras: tuple[str, ...]
) -> None:
    found = imported(repository_root / folder for folder in folders)
    assert "numpy" in found
    for top in NO_DISTRIBUTION:
        found.pop(top, None)
    missing = undeclared(found, declared(repository_root, *extras))
    assert not missing, f"declare in pyproject.toml, and pin in constraints.txt: {missing}"


def test_what_is_declared_is_imported(repository_root: Path) -> None:
    homes = packages_distributions()
    found = imported(repository_root / folder for folder in (*PRODUCT, *MODELS))
    used = {normalised(name) for top in found for name in homes.get(top, [top])}
    assert declared(repository_root, *OPTIONAL) - used == LOADED_BY_OTHERS.keys()


def test_what_is_declared_is_pinned(repository_root: Path) -> None:
    pins = re.findall(r"^([a-z0-9.-]+)==", (repository_root / "constraints.txt").read_text(), re.M)
    names = declared(repository_root, *DEVELOPMENT) - {"edgefusion"}
    assert not sorted(names - {normalised(pin) for pin in pins})


def test_a_planted_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(
        "import json, yaml\nfrom google.protobuf import message\nimport beside\n"
        "def late():\n    import not_there.inner\n"
    )
    (tmp_path / "beside.py").write_text("")
    found = imported([tmp_path])
    assert found.keys() == {"yaml", "google", "not_there"}
    missing = undeclared(found, frozenset({"pyyaml"}))
    assert [line.partition(" ")[0] for line in missing] == ["google", "not_there"]
