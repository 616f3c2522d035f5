"""The tilings of an op that the compiler considered, searched again from the bundle's network."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.errors import UsageError
from edgefusion.toolchain.profiling.frames import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.compiler.lowering.tile_search import Candidate
    from edgefusion.runtime.program import OpRecord
    from edgefusion.toolchain.profiling.scenario import Scenario


def tilings_frame(
    bundle: Bundle, op: str, scenario: Scenario, components: Sequence[str]
) -> pd.DataFrame:
    """All tilings of an op, best first, rejected ones last, on the scenario's machine.

    ``op`` is its name or module, with its component before a dot where several have one. Raises
    UsageError for an op that none of ``components`` has, or more than one.
    """
    import pandas as pd

    from edgefusion.compiler.lowering.lower import candidates_of

    component, record = _found(bundle, op, components)
    schedule = schedule_named(scenario.schedule)
    network = bundle.network(component)
    candidates = candidates_of(network, record.name, scenario.machine, schedule)
    frame = pd.DataFrame(
        [
            {
                "component": component,
                "op": record.name,
                "rank": rank,
                "tiling": str(each.tiling),
                "taken": rank == 1 and not each.rejected,
                "slots": each.slots,
                "sram_bytes": each.sram_bytes or None,
                **_costs(each),
                "rejected": each.rejected,
            }
            for rank, each in enumerate(candidates, start=1)
        ],
        columns=list(COLUMNS["tiles"]),
    )
    return frame.astype(dict.fromkeys(("sram_bytes", *_costs(candidates[0])), "Int64"))


def _costs(candidate: Candidate) -> dict[str, int | None]:
    costs = {
        "dma_bytes": candidate.dma_bytes,
        "instructions": candidate.instructions,
        "time_ps": candidate.time_ps,
    }
    return dict.fromkeys(costs, None) if candidate.rejected else {**costs}


def _found(bundle: Bundle, op: str, components: Sequence[str]) -> tuple[str, OpRecord]:
    named: dict[str, list[tuple[str, OpRecord]]] = {}
    for component in components:
        for record in bundle.program(component, verify=False).ops:
            texts = dict.fromkeys((record.name, record.scope or record.name))
            for text in texts:
                for key in (text, f"{component}.{text}"):
                    named.setdefault(key, []).append((component, record))
    found = named.get(op, [])
    if len(found) == 1:
        return found[0]
    if found:
        there = ", ".join(f"{component}.{record.name}" for component, record in found[:6])
        raise UsageError(f"{op} is {len(found)} ops: {there}. Name one of them.")
    near = get_close_matches(op, named, 3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"{', '.join(components)} has no op {op!r}.{hint}")
