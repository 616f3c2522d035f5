"""How much of a latency the host takes, in a sentence, where that is worth a word.

Work that falls to the host costs up to a hundred times what it would on the NPU, and a total alone
does not show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefusion.runtime.latency import PipelineLatency

WORTH_TELLING = 0.1
"""Of the whole latency."""

_KIND = "host"
_NAMED = 3


def heavy_host(latency: PipelineLatency) -> str:
    """``host functions take A ms of B ms, most of it ...``; '' for less than a tenth."""
    spent = [
        (count * op.latency_ps, component.name, op)
        for component, count in latency.components
        for op in component.ops
        if op.kind == _KIND
    ]
    total_ps = sum(ps for ps, _, _ in spent)
    if not spent or total_ps < WORTH_TELLING * latency.total_ps:
        return ""
    _, component, op = max(spent, key=lambda row: row[0])
    more = ", ..." if len(op.origin) > _NAMED else ""
    return (
        f"host functions take {total_ps / 1e9:,.3f} ms of {latency.total_ms:,.3f} ms, most of it "
        f"{op.name} of {component} (from {', '.join(op.origin[:_NAMED])}{more})"
    )
