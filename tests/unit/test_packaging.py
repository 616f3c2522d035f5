"""The wheel holds edgefusion/* alone, with its data; static tools see the same packages."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FOLDERS = ("compiler", "passes", "runtime", "models", "toolchain", "benchmarks")
DATA_SUFFIXES = {".toml", ".csv", ".html", ".css", ".js", ".safetensors"}


@pytest.fixture(scope="module")
def copy_and_wheel(
    repository_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, set[str]]:
    """A copy of the checkout, so that no build products stay behind, and its wheel's members."""
    copy = tmp_path_factory.mktemp("checkout") / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(repository_root / name, copy)
    for folder in (*FOLDERS, "edgefusion"):
        shutil.copytree(
            repository_root / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    (copy / "runtime" / "targets" / "planted.toml").write_text("")
    (copy / "benchmarks" / "planted").mkdir()
    (copy / "benchmarks" / "planted" / "table.csv").write_text("")
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", "wheels"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (copy / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return copy, set(archive.namelist())


def test_wheel_installs_only_edgefusion(copy_and_wheel: tuple[Path, set[str]]) -> None:
    _, names = copy_and_wheel
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgefusion"}


def test_wheel_holds_every_module_and_data_file(copy_and_wheel: tuple[Path, set[str]]) -> None:
    copy, names = copy_and_wheel
    expected = set()
    for folder in (*FOLDERS, "edgefusion"):
        for path in (copy / folder).rglob("*"):
            if path.suffix in {".py", *DATA_SUFFIXES}:
                inside = path.relative_to(copy).as_posix()
                expected.add(inside if folder == "edgefusion" else f"edgefusion/{inside}")
    assert {"edgefusion/runtime/targets/planted.toml", "edgefusion/cli/__init__.py"} <= expected
    assert expected <= names, sorted(expected - names)


def test_namespace_links_mirror_the_install(repository_root: Path) -> None:
    namespace = repository_root / ".namespace" / "edgefusion"
    linked = {link.name: link.resolve() for link in namespace.iterdir()}
    face = (repository_root / "edgefusion").iterdir()
    expected = {path.name: path for path in face if path.name != "__pycache__"}
    expected |= {folder: repository_root / folder for folder in FOLDERS}
    assert linked == expected, "add or remove the symlink: .namespace/edgefusion/NAME"
    assert all(not link.readlink().is_absolute() for link in namespace.iterdir())


def test_mypy_sees_through_the_namespace(repository_root: Path, tmp_path: Path) -> None:
    """With the project's settings, on a file that imports the packages: two lines are wrong, and
    the others sound."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "from edgefusion.runtime.errors import InputError, NoSuchError\n"
        "code: str = InputError.exit_code\n"
        "sound: int = InputError.exit_code\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
    command += ["--cache-dir", str(tmp_path / "cache"), str(probe)]
    result = subprocess.run(
        command, cwd=repository_root, capture_output=True, text=True, check=False
    )
    found = re.findall(r"probe\.py:(\d): error: (.*)", result.stdout)
    assert [line for line, _ in found] == ["1", "2"], result.stdout + result.stderr
    assert 'has no attribute "NoSuchError"' in found[0][1]
    assert 'expression has type "int", variable has type "str"' in found[1][1]


def test_constraints_are_exact_and_name_no_place(repository_root: Path) -> None:
    lines = (repository_root / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    wrong = [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", pin)]
    assert not wrong
    assert "torch==2.13.0" in pins
