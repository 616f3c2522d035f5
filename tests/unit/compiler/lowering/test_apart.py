"""Another process lowers to the same program, and what goes wrong there is told from here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgefusion.compiler.lowering import apart
from edgefusion.compiler.lowering.apart import Lowering, lowering, takes_long
from edgefusion.compiler.lowering.lower import lower
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.schedule.schedule import SCHEDULES, schedule_named
from edgefusion.runtime.errors import DoesNotFitError
from edgefusion.runtime.program import Program
from edgefusion.runtime.progress import silent
from edgefusion.runtime.target import load_target
from tests.group_cases import ChainBuilder

MACHINE = load_target("exynos2400").machine
PIPELINED = schedule_named("pipelined")


def chain(count: int) -> Network:
    builder = ChainBuilder()
    x = builder.input(1, 16, 16, 16)
    for _ in range(count):
        x = builder.conv(x, 16)
    return builder.build(x)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A network of few ops, which count as many."""
    monkeypatch.setattr(apart, "_WORTHWHILE_OPS", 1)
    return chain(3)


def saved(program: Program, folder: Path) -> bytes:
    program.save(folder / "program.npz")
    return (folder / "program.npz").read_bytes()


def process_of(begun: Lowering) -> subprocess.Popen[bytes]:
    assert begun.process is not None
    return begun.process


def test_the_program_is_the_same_under_every_schedule(short: Network, tmp_path: Path) -> None:
    here, there = list[str](), list[str]()
    with lowering(short, MACHINE, SCHEDULES, tmp_path, there.append, busy=True) as begun:
        assert begun.is_apart
        for schedule in SCHEDULES:
            program = lower(short, MACHINE, schedule, here.append).program
            assert saved(begun.program(schedule), tmp_path) == saved(program, tmp_path)
    assert there == here, "what it says is passed on"


def test_an_error_is_the_one_that_lowering_raises(short: Network, tmp_path: Path) -> None:
    small = MACHINE.with_values(sram_bytes=64)
    with pytest.raises(DoesNotFitError) as here:
        lower(short, small, PIPELINED)
    with (
        lowering(short, small, [PIPELINED], tmp_path, silent, busy=True) as begun,
        pytest.raises(DoesNotFitError) as there,
    ):
        begun.program(PIPELINED)
    assert process_of(begun).returncode == 1
    assert str(there.value) == str(here.value)


def test_what_a_killed_process_was_to_do_is_done_here(short: Network, tmp_path: Path) -> None:
    with lowering(short, MACHINE, [PIPELINED], tmp_path, silent, busy=True) as begun:
        process_of(begun).kill()
        program = begun.program(PIPELINED)
    expected = lower(short, MACHINE, PIPELINED).program
    assert saved(program, tmp_path) == saved(expected, tmp_path)


def test_without_a_further_process_the_work_is_done_here(
    short: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with lowering(short, MACHINE, [PIPELINED], tmp_path, silent, busy=True) as begun:
        assert not begun.is_apart
        assert len(begun.program(PIPELINED))


def test_nothing_runs_on_after_the_block(short: Network, tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        lowering(short, MACHINE, [PIPELINED], tmp_path, silent, busy=True) as begun,
    ):
        raise KeyboardInterrupt
    assert process_of(begun).returncode == -9


def test_nothing_runs_on_without_the_process_that_asked(short: Network, tmp_path: Path) -> None:
    with lowering(short, MACHINE, [PIPELINED], tmp_path, silent, busy=True) as begun:
        process = process_of(begun)
        assert process.stdin is not None
        process.stdin.close()  # as when this process dies
        assert process.wait(60) == 1
    assert not (tmp_path / "pipelined.pkl").exists()


def test_a_process_is_begun_only_where_it_pays(tmp_path: Path) -> None:
    long = chain(50)
    assert takes_long(long, SCHEDULES)
    assert not takes_long(long, SCHEDULES[:2]), "no groups to plan"
    assert not takes_long(chain(49), SCHEDULES)
    with lowering(long, MACHINE, SCHEDULES, tmp_path, silent, busy=False) as begun:
        assert not begun.is_apart, "this process would only wait"
