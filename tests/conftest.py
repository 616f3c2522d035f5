"""What every test shares: the place of the checkout, a run without network or telemetry, and what
is dear to make and made once for all workers."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from edgefusion.models.source import Source
    from edgefusion.runtime.progress import Say

# Set before any test imports a hub client: a test must never depend on the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# The first example of a test may compile kernels, which no deadline of a test can know. The gate
# tries the same examples every time; `--hypothesis-profile=default` draws others.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")


LONGEST = (
    "tests/e2e/test_cli_calibration.py",  # makes the demo, which other files then have
    "tests/e2e/test_cli_train.py",
    "tests/e2e/test_cli_bench.py",
    "tests/differential/test_bundle_execution.py",
    "tests/e2e/",
    "tests/differential/",
    "tests/property/",
    "tests/unit/models/",
    "tests/unit/toolchain/",
    "tests/unit/test_",
)
"""What takes minutes or has files of half a minute: begun first, so that workers end together."""


class _ByFile(LoadScopeScheduling):
    """A file's tests stay together among several workers, for they share its fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    """pytest-xdist's own groups depend on what pytest no longer has."""
    config.option.loadscopereorder = False  # by number of tests, which is not their time
    return _ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        starts = (i for i, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(starts, len(LONGEST))

    items.sort(key=place)


def pytest_configure(config: pytest.Config) -> None:
    """Each worker keeps to cores of its own, whose number torch and ONNX Runtime then go by: on two
    cores the threads of two workers would wait for one another."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores, count = sorted(os.sched_getaffinity(0)), worker["workercount"]
    if len(cores) >= count:
        os.sched_setaffinity(0, cores[int(worker["workerid"].removeprefix("gw")) :: count])


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The root of the checkout, where pyproject.toml lies."""
    return Path(__file__).resolve().parents[1]


Once = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """``once(name, make)`` is a folder that ``make`` has filled, for the first worker that asks;
    the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    root = (root if worker_id == "master" else root.parent) / "once"
    root.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        made, done = root / name, root / f"{name}.done"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(made, ignore_errors=True)  # of a worker that failed
                made.mkdir()
                make(made)
                done.touch()
        return made

    return folder


@pytest.fixture(scope="session")
def kept_exports(once: Once, request: pytest.FixtureRequest) -> Iterator[None]:
    """From here on, a component of a preset or a folder is exported once, for all that compile it
    or verify against it in these processes: the same content, deployed in the same way, gives the
    same bytes, which the tests of exports prove, and a small pipeline takes half a minute."""
    from edgefusion.compiler.bundle.deployment import AS_BEFORE
    from edgefusion.models import export
    from edgefusion.models.source import resolve_source
    from edgefusion.toolchain.accuracy import references

    real = export.export_component
    tiny = resolve_source("tiny-test").digest

    def export_once(
        source: Source,
        component: str,
        directory: Path,
        *,
        batch: int = 1,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Say | None = None,
    ) -> Path:
        if source.kind == "onnx" or shapes or component not in source.components:
            return real(source, component, directory, batch=batch, shapes=shapes, progress=progress)

        def make(folder: Path) -> None:
            real(source, component, folder, batch=batch, progress=progress)

        chosen = sha256(repr(source.deployed).encode()).hexdigest()[:12]
        if source.digest == tiny and batch == 1 and source.deployed == AS_BEFORE:
            kept = request.getfixturevalue("tiny_exports")
        else:
            kept = once(f"export-{source.digest}-{chosen}-{component}-{batch}", make)
        directory.mkdir(parents=True, exist_ok=True)
        for suffix in (".onnx.data", ".onnx"):  # the graph file last; small weights are in it
            if (file := kept / f"{component}{suffix}").exists():
                shutil.copy(file, directory)
        return directory / f"{component}.onnx"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export_component", export_once)
        patch.setattr(references, "export_component", export_once)
        yield


@pytest.fixture(scope="session")
def tiny_exports(once: Once) -> Path:
    """A folder with all components of `tiny-test`, seed 0, as <component>.onnx. Do not change it.

    Exported once for all workers, in another process with another hash seed, so that the tests
    which export again would see an order taken from a set.
    """
    program = (
        "import pathlib, sys\n"
        "from edgefusion.models.export import export_component\n"
        "from edgefusion.models.source import resolve_source\n"
        "source = resolve_source('tiny-test')\n"
        "for component in source.components:\n"
        "    export_component(source, component, pathlib.Path(sys.argv[1]))\n"
    )

    def make(folder: Path) -> None:
        result = subprocess.run(
            [sys.executable, "-c", program, str(folder)],
            env=os.environ | {"PYTHONHASHSEED": "77"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout == "", "the exporter's own prints must be silenced"

    return once("tiny-exports", make)


@pytest.fixture(scope="session")
def demo(once: Once, kept_exports: None) -> Path:
    """The folder of ``demo --source tiny-test``: bundles of two schedules, work/ with exports, and
    demo.json. Do not change it."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "edgefusion", "demo", "--source", "tiny-test"]
        result = subprocess.run(
            [*command, "-o", str(folder), "--json", str(folder / "demo.json")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONHASHSEED": "123"},
        )
        assert result.returncode == 0, result.stderr
        (folder / "stdout.txt").write_text(result.stdout)
        (folder / "stderr.txt").write_text(result.stderr)

    return once("demo", make)
