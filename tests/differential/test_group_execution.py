"""Programs whose ops run as groups: the bits of those that run one by one, whatever the plan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.epilogue import EpilogueBuffers
from edgefusion.compiler.lowering.held import Rolling
from edgefusion.compiler.lowering.lower import lower, stripes
from edgefusion.compiler.lowering.scene import Frontier, Step
from edgefusion.compiler.lowering.view import Cells, View
from edgefusion.compiler.memory import sram
from edgefusion.compiler.network.network import Network
from edgefusion.compiler.network.window import Span
from edgefusion.compiler.schedule.dependences import Region
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import EdgeFusionError
from edgefusion.runtime.groups import STATISTICS
from edgefusion.runtime.isa import Cause
from edgefusion.runtime.kernels.contract import Array
from edgefusion.runtime.ledger import traffic_ledger
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.measurement import bound_violations, component_latency
from edgefusion.runtime.program import Operand
from edgefusion.runtime.store_watch import part_of
from edgefusion.runtime.target import load_target
from edgefusion.runtime.tiles_of_products import places_of_tiles
from tests.group_cases import CASES, EVERYTHING, KIB, Run, any_plan, execute, in_half, ways

MACHINE = load_target("exynos2400").machine
SLOW, FAST = 1e9, 60e9
"""DRAM beside which everything pays that saves traffic, and beside which little does."""


@dataclass(frozen=True)
class Setting:
    """A case on a machine. Its plan is the cheapest, or any that is legal, drawn from ``seed``."""

    case: str
    half: bool
    sram_kib: int
    seed: int | None = None
    dram: float = SLOW
    engines: int = 1

    def __str__(self) -> str:
        dtype = "fp16" if self.half else "int16"
        plan = "cheapest" if self.seed is None else f"drawn{self.seed}"
        return f"{self.case}-{dtype}-{self.sram_kib}-{plan}"

    @property
    def network(self) -> Network:
        """What is compiled."""
        network = CASES[self.case]()
        return in_half(network) if self.half else network

    @property
    def machine(self) -> Machine:
        """What it is compiled for."""
        return MACHINE.with_values(
            sram_bytes=self.sram_kib * KIB,
            dma_bandwidth_bytes_per_s=self.dram,
            tensor_engines=self.engines,
            vector_engines=self.engines,
            dma_engines=self.engines,
        )

    def executed(self) -> Run:
        """Compiled under the schedule that forms groups, verified and executed."""
        with any_plan(self.seed) if self.seed is not None else nullcontext():
            return execute(self.network, self.machine, EVERYTHING)


SETTINGS = (
    Setting("convs", True, 128),
    Setting("convs", False, 32, seed=0),
    Setting("convs", False, 8, seed=1),
    Setting("residual", False, 128, engines=2),
    Setting("convs", True, 12, seed=0),
    Setting("residual", False, 32, seed=1),
    Setting("residual", True, 32, seed=0),
    Setting("residual", True, 128, dram=FAST),
    Setting("wide tail", False, 12),
    Setting("wide tail", False, 12, seed=0),
    Setting("wide tail", False, 24, seed=0, engines=2),
    Setting("wide tail", True, 24, seed=0),
    Setting("heavy tail", True, 160),
    Setting("heavy tail", True, 192, dram=14e9),
    Setting("heavy tail", False, 128, engines=2),
    Setting("heavy tail", False, 160, dram=14e9),
    Setting("down and up", False, 32),
    Setting("down and up", False, 12),
    Setting("down and up", True, 48, seed=0),
    Setting("normed skip", False, 32),
    Setting("normed skip", False, 16, engines=2),
    Setting("normed skip", False, 24, seed=0),
    Setting("normed skip", True, 24),
    Setting("up by phases", False, 24, engines=2),
    Setting("up by phases", True, 16),
    Setting("up by phases", False, 48, seed=2),
    Setting("transformer", False, 24, engines=2),
    Setting("transformer", True, 32),
    Setting("transformer", False, 12, seed=0),
    Setting("transformer", True, 12, seed=0),
    Setting("image transformer", False, 24),
    Setting("image transformer", True, 24),
    Setting("image transformer", True, 12, seed=1),
    Setting("image transformer", False, 32, seed=1),
)
WAYS = (
    *("group", "kept", "shared", "single", "resident", "replaced", "near"),
    *("twice", "swept", "split", "gated"),
)


@cache
def reference(case: str, half: bool) -> dict[str, Array]:
    """What one op after the other computes, in one piece each."""
    return execute(
        Setting(case, half, 0).network, MACHINE, schedule_named("serial")
    ).execution.outputs


@cache
def grouped(setting: Setting) -> Run:
    """See ``Setting.executed``."""
    return setting.executed()


def taking(*wanted: str) -> Setting:
    """The first setting whose plan takes these ways."""
    return next(s for s in SETTINGS if set(wanted) <= ways(grouped(s).lowered))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_no_plan_changes_a_bit(setting: Setting) -> None:
    for name, wanted in reference(setting.case, setting.half).items():
        found = grouped(setting).execution.outputs[name]
        assert len(np.unique(wanted)) > 100
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("half", [False, True], ids=["int16", "fp16"])
def test_every_way_to_save_traffic_is_taken_somewhere(half: bool) -> None:
    taken = [ways(grouped(s).lowered) for s in SETTINGS if s.half is half]
    assert set().union(*taken) == set(WAYS)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_nothing_beats_its_bound_and_bytes_are_conserved(setting: Setting) -> None:
    machine, run = setting.machine, grouped(setting)
    program = run.lowered.program
    assert program.sram_bytes <= machine.sram_bytes
    latency = component_latency(program, machine)
    assert bound_violations(latency) == []
    ledger = traffic_ledger(program, machine)
    by_cause = {Cause[name.upper()]: n for name, n in ledger.bytes_by_cause().items() if n}
    assert by_cause == run.execution.moved_bytes
    totals = {sum(row.bytes for row in ledger.by(key)) for key in ("cause", "op", "tensor")}
    assert totals == {latency.dram_read_bytes + latency.dram_write_bytes}


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_what_stays_in_sram_never_meets_dram(setting: Setting) -> None:
    lowered = grouped(setting).lowered
    apart = lower(setting.network, setting.machine, schedule_named("mlt")).program
    gone = lowered.plan.never_in_dram
    moved = {row.name for row in traffic_ledger(lowered.program, MACHINE).by("tensor") if row.bytes}
    assert not gone & moved
    assert gone <= {row.name for row in traffic_ledger(apart, MACHINE).by("tensor") if row.bytes}


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_tiles_of_a_gated_product_are_found_once_each(setting: Setting) -> None:
    program = grouped(setting).lowered.program
    rolling = stripes(program, setting.network, setting.machine, EVERYTHING)
    seen: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
    for index, place in places_of_tiles(program, rolling).items():
        i = program.instruction(index)
        (tile,) = i.outputs
        record = program.tensors[tile.tensor]
        counts = seen.setdefault((i.op, tile.tensor), np.zeros(record.shape, np.int64))
        part_of(counts.reshape(-1), record, tile, place)[...] += 1
    gated = [number for number, op in enumerate(program.ops) if op.kind == "gated_matmul"]
    assert sorted(op for op, _ in seen) == gated
    assert all((counts == 1).all() for counts in seen.values())


def test_computing_twice_shows_in_the_products() -> None:
    records = {op.name: op for op in grouped(taking("twice")).lowered.program.ops}
    again = [name for name in records if name.endswith(STATISTICS)]
    assert sum(records[name].macs for name in again) > 0
    for name in again:
        assert records[name].macs == records[name.removesuffix(STATISTICS)].macs


# Broken on purpose: each fault is found by the verifier, by the executor, or in the bits


def without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are still needed of the stripe before do not move to the next one."""
    advance = Rolling.advance

    def silent(self: Rolling, first: int, fresh: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Emitter, "vector", lambda *_: None)
            advance(self, first, fresh)

    monkeypatch.setattr(Rolling, "advance", silent)


def with_the_first_cell_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads several bands of a tensor waits for the first alone."""
    touched = Cells.touched
    monkeypatch.setattr(Cells, "touched", lambda self, o: touched(self, o)[:1])


def without_earlier_occupants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffers do not wait for what lay there before."""
    none: list[Region] = []
    monkeypatch.setattr(Emitter, "before", lambda self, start, stop: none)


def with_stripes_one_line_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in SRAM is taken to begin a line further up than it does."""
    view = Rolling.view

    def low(self: Rolling, prototype: View, tensor: int | None = None) -> View:
        made = view(self, prototype, tensor)
        line = made.operand.strides[-3] if len(made.shape) > 2 else self.row_bytes
        o = made.operand
        moved = Operand(o.tensor, o.space, o.address + line, o.dtype, o.shape, o.strides)
        return made._replace(operand=moved)

    monkeypatch.setattr(Rolling, "view", low)


def with_a_line_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each op but the last a step computes fewer rows than those after it read."""
    step = Frontier._step

    def short(self: Frontier, start: int, stop: int) -> Step:
        made = step(self, start, stop)
        *spans, last = made.spans
        return replace(made, spans=(*(Span(s.start, s.size // 2) for s in spans), last))

    monkeypatch.setattr(Frontier, "_step", short)


def without_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of a result are collected, and never stored."""
    monkeypatch.setattr(EpilogueBuffers, "finish", lambda self, e: None)


def with_residents_at_the_bottom(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays in SRAM lies where buffers of groups are."""

    def stacked(*args: Any) -> sram.SramLayout | sram.Crowded:
        made = sram.lay_out(*args)
        if isinstance(made, sram.Crowded):
            return made
        return replace(made, residents=dict.fromkeys(made.residents, 0))

    monkeypatch.setattr("edgefusion.compiler.lowering.placing.lay_out", stacked)


FAULTS: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]] = {
    without_copies: ("group", "shared"),
    with_the_first_cell_only: ("group", "shared"),
    without_earlier_occupants: ("group", "resident"),
    with_stripes_one_line_low: ("group", "shared"),
    with_a_line_less: ("group", "shared"),
    without_sums: ("twice",),
    with_residents_at_the_bottom: ("group", "resident"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_plan_emitted_wrong_is_caught(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = taking(*FAULTS[fault])
    wanted = reference(setting.case, setting.half)
    fault(monkeypatch)
    try:
        found = setting.executed().execution.outputs
    except EdgeFusionError:
        return
    assert any((found[name] != wanted[name]).any() for name in wanted)
