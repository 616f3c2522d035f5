"""The order that hazards are judged by."""

from __future__ import annotations

import numpy as np

from edgefusion.runtime.hazards import find_hazards, happens_before
from edgefusion.runtime.isa import DType, EngineKind, Opcode, Space
from edgefusion.runtime.program import Operand
from edgefusion.runtime.program_builder import ProgramBuilder


def test_clocks_agree_with_reachability() -> None:
    """Vector clocks against the transitive closure of dependencies and queues, on random graphs."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        n = 40
        builder = ProgramBuilder("unet", "exynos2400", "pipelined")
        engines = rng.integers(0, 4, n)
        before = np.zeros((n, n), dtype=bool)
        for i in range(n):
            deps = [int(d) for d in rng.integers(0, i, rng.integers(0, 3))] if i else []
            builder.emit(EngineKind(int(engines[i])), 0, Opcode.COPY, [], [], 0, deps)
            queue = np.flatnonzero(engines[:i] == engines[i])[-1:].tolist()
            for d in deps + queue:
                before[i] |= before[d]
                before[i, d] = True
        clocks = happens_before(builder.build().columns)
        number = np.unique(engines, return_inverse=True)[1]
        for i in range(n):
            assert [bool(clocks[i, number[a]] >= a) for a in range(i)] == before[i, :i].tolist()


def test_hazards_agree_with_a_search_over_all_pairs() -> None:
    rng = np.random.default_rng(11)
    found = 0
    for _ in range(20):
        builder = ProgramBuilder("unet", "exynos2400", "pipelined")
        for i in range(60):
            engine = EngineKind(int(rng.integers(0, 3)))
            views = [
                Operand(-1, Space.SRAM, int(rng.integers(0, 300)), DType.INT8, (4,), (1,))
                for _ in range(2)
            ]
            deps = [int(d) for d in rng.integers(0, i, 1)] if i else []
            builder.emit(engine, 0, Opcode.COPY, views[:1], views[1:], 0, deps)
        program = builder.build()
        clocks = happens_before(program.columns)
        rows = list(program.instructions())
        engines = sorted({row.engine for row in rows})
        expected = {
            (a, x)
            for x, later in enumerate(rows)
            for a, earlier in enumerate(rows[:x])
            if clocks[x, engines.index(earlier.engine)] < a
            and (
                meets(earlier.outputs[0], later.outputs[0])
                or meets(earlier.outputs[0], later.inputs[0])
                or meets(earlier.inputs[0], later.outputs[0])
            )
        }
        hazards = find_hazards(program.columns, 10_000)
        assert {(h.earlier, h.later) for h in hazards} == expected
        assert len(hazards) == len(expected)
        found += len(expected)
    assert found > 100


def meets(one: Operand, other: Operand) -> bool:
    return one.address < other.end and other.address < one.end
