"""The import contracts hold, and each of them fires on an import planted against it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FOLDERS = ("compiler", "passes", "runtime", "models", "toolchain", "benchmarks")


def lint_imports(namespace: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Runs import-linter from `namespace`, the folder that holds edgefusion/."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as main; main()",
    ]
    command += ["--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=namespace, capture_output=True, text=True, check=False)


def test_contracts_hold(repository_root: Path) -> None:
    result = lint_imports(repository_root / ".namespace", repository_root / "pyproject.toml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def rooms(root: Path) -> list[str]:
    """The sub-packages that the contracts name, as paths."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    return [
        f"{container.removeprefix('edgefusion.')}/{room.strip()}"
        for contract in contracts["contracts"]
        for container in contract.get("containers", [])
        for layer in contract["layers"]
        for room in layer.split("|")
    ]


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("compiler/graph", "import edgefusion.compiler.network", "Rooms of the compiler"),
        ("compiler/network", "import edgefusion.compiler.schedule", "Rooms of the compiler"),
        ("compiler/lowering", "import edgefusion.compiler.ops", "Rooms of the compiler"),
        ("compiler/frontend", "import edgefusion.compiler.bundle", "Rooms of the compiler"),
        ("toolchain/running", "import edgefusion.toolchain.accuracy", "Rooms of the toolchain"),
        ("runtime", "import edgefusion.compiler", "Imports point one way"),
        ("compiler", "import edgefusion.passes", "Imports point one way"),
        ("passes", "import edgefusion.models", "Imports point one way"),
        ("models", "import edgefusion.toolchain", "Imports point one way"),
        ("toolchain", "import edgefusion.benchmarks", "Imports point one way"),
        ("benchmarks", "import edgefusion.cli", "Imports point one way"),
        ("cli", "import edgefusion.benchmarks", "Imports point one way"),
        ("compiler", "from edgefusion import __version__", "Nothing below the face"),
        ("runtime", "import onnx", "The machine knows neither"),
        ("runtime", "import torch", "The machine knows neither"),
        ("compiler", "import torch", "Training frameworks live in models"),
        ("passes", "import diffusers", "Training frameworks live in models"),
    ],
)
def test_planted_import_is_reported(
    repository_root: Path, tmp_path: Path, module: str, statement: str, contract: str
) -> None:
    package = tmp_path / "edgefusion"
    for name in (*FOLDERS, "cli", *rooms(repository_root)):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").write_text("")
    (package / "__init__.py").write_text("__version__ = '0'\n")
    (package / module / "planted.py").write_text(statement + "\n")
    shutil.copy(repository_root / "pyproject.toml", tmp_path)
    result = lint_imports(tmp_path, tmp_path / "pyproject.toml")
    broken = [line for line in result.stdout.splitlines() if line.rstrip().endswith("BROKEN")]
    assert result.returncode == 1, result.stdout + result.stderr
    assert [line for line in broken if line.startswith(contract)], result.stdout
