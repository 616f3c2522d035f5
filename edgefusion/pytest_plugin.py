"""Latency tables in a user's own pytest suites; pytest finds this as an installed entry point.

``pytest tests examples/ci/suite.toml`` makes a test of every case of a suite that is named, and of
suites called ``*.npu-suite.toml`` wherever tests are collected. A test that fails says what moved.
The fixture ``npu_profile`` times a bundle for assertions of one's own. PYTEST_DONT_REWRITE

Nothing of the toolchain is imported until a suite is collected or the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.runtime.machine import Machine
    from edgefusion.runtime.target import Target
    from edgefusion.toolchain.profiling.profile import Profile
    from edgefusion.toolchain.suites.bundles import Bundles
    from edgefusion.toolchain.suites.comparison import CaseResult
    from edgefusion.toolchain.suites.suite import Case, Suite

_ENDING = ".npu-suite.toml"


class TimeBundle(Protocol):
    """What ``npu_profile`` gives: a function of a bundle, or of its path, and of what differs from
    what it was compiled for."""

    def __call__(
        self,
        bundle: Bundle | Path | str,
        *,
        settings: tuple[str, ...] = (),
        target: str | Target | Machine | None = None,
        schedule: str | None = None,
        steps: int | None = None,
    ) -> Profile:
        """The profile; raises the errors of ``edgefusion.runtime.errors``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of ``edgefusion bench check`` that tests need."""
    group = parser.getgroup("edgefusion", "latency tables of NPU bundles")
    group.addoption(
        "--npu-work-dir",
        metavar="DIR",
        help="where bundles of a suite's sources are kept and found again",
    )
    group.addoption(
        "--npu-allow-new",
        action="store_true",
        help="cases of a suite that have no baseline yet pass",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Suites by their ending, and any .toml file that is named on the command line."""
    named = file_path.suffix == ".toml" and parent.session.isinitpath(file_path)
    if named or file_path.name.endswith(_ENDING):
        return SuiteFile.from_parent(parent, path=file_path)
    return None


class SuiteFile(pytest.File):
    """A suite: a test for each case, and for each baseline whose case is gone."""

    def collect(self) -> Iterator[pytest.Item]:
        """Raises pytest's CollectError for a suite that is not understood."""
        from edgefusion.runtime.errors import EdgeFusionError
        from edgefusion.toolchain.suites.bundles import Bundles
        from edgefusion.toolchain.suites.running import cases_gone
        from edgefusion.toolchain.suites.suite import load_suite

        folder = self.config.getoption("--npu-work-dir")
        try:
            suite = load_suite(self.path)
            bundles = Bundles(suite, folder=Path(folder) if folder else None)
        except EdgeFusionError as error:
            raise self.CollectError(str(error)) from None
        for case in suite.cases:
            yield CaseItem.from_parent(
                self, name=case.name, suite=suite, case=case, bundles=bundles
            )
        for name in cases_gone(suite):
            yield GoneItem.from_parent(self, name=name)


class _Moved(Exception):  # noqa: N818  # pytest's word for it is a failure
    """A case that fails, with its explanation."""

    def __init__(self, result: CaseResult) -> None:
        lines = (f"{result.status} {result.case}", *(f"  {line}" for line in result.explanation))
        super().__init__("\n".join(lines))


class _SuiteItem(pytest.Item):
    """A test that is a line of a suite, not a function."""

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        """The explanation alone; a traceback would be of this plugin."""
        if isinstance(excinfo.value, _Moved):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The suite's file and the case's name."""
        return self.path, None, self.name


class CaseItem(_SuiteItem):
    """Times a case and compares it with its baseline."""

    def __init__(self, *, suite: Suite, case: Case, bundles: Bundles, **others: Any) -> None:
        super().__init__(**others)
        self._suite, self._case, self._bundles = suite, case, bundles

    def runtest(self) -> None:
        """Fails with the explanation of what moved."""
        from edgefusion.toolchain.suites.comparison import Status
        from edgefusion.toolchain.suites.running import check_case

        result = check_case(self._suite, self._case, self._bundles)
        allowed = [Status.OK]
        if self.config.getoption("--npu-allow-new"):
            allowed.append(Status.NEW)
        if result.status not in allowed:
            raise _Moved(result)


class GoneItem(_SuiteItem):
    """A baseline whose case the suite has not any more."""

    def runtest(self) -> None:
        """Always fails."""
        from edgefusion.toolchain.suites.comparison import missing

        raise _Moved(missing(self.name))


@pytest.fixture(scope="session")
def npu_profile() -> TimeBundle:
    """Times a bundle: ``npu_profile("my.npub", settings=("sram=4MiB",)).latency.total_ms``."""
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.toolchain.profiling.profile import profile_bundle
    from edgefusion.toolchain.profiling.scenario import scenario_of

    def profile(
        bundle: Bundle | Path | str,
        *,
        settings: tuple[str, ...] = (),
        target: str | Target | Machine | None = None,
        schedule: str | None = None,
        steps: int | None = None,
    ) -> Profile:
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        scenario = scenario_of(
            opened, settings=settings, target=target, schedule=schedule, steps=steps
        )
        return profile_bundle(opened, scenario)

    return profile
