"""A profile as pandas DataFrames: components, ops, traffic, instructions, transfers.

Times in picoseconds, bytes and counts are whole numbers, exact; columns in milliseconds are the
same figures for people. Columns whose names begin with ``image`` count all evaluations of an image,
all others are of one evaluation. ``COLUMNS`` says what each column means; the frames are made from
it, so that none is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.isa import EngineKind, Opcode
from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.ledger import CAUSES, DIRECTIONS, View
from edgefusion.runtime.simulator import STALL_REASONS

if TYPE_CHECKING:
    import pandas as pd

    from edgefusion.toolchain.profiling.profile import ComponentProfile, OpProfile, Profile

VIEWS: tuple[View, ...] = get_args(View)
_KINDS = {kind: kind.name.lower() for kind in EngineKind}
_CAUSES = CAUSES[1:]

_MEASURED = {
    "latency_ps": "latency, exactly",
    "latency_ms": "the same in milliseconds",
    "image_latency_ps": "latency of all evaluations of an image",
    "image_latency_ms": "the same in milliseconds",
    "share_percent": "of the image's latency",
}
_BUSY = {f"{name}_busy_ps": f"time that its {name} engines work" for name in _KINDS.values()}
_MOVED = {
    "dram_read_bytes": "useful bytes from DRAM",
    "dram_write_bytes": "useful bytes to DRAM",
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "components": {
        "component": "its name",
        "evaluations": "how often it runs for one image",
        **_MEASURED,
        "bound_ps": "time that no schedule of its groups of ops can beat",
        "fused_bound_ps": "time that no schedule of any groups can beat",
        "serial_bound_ps": "sum of its ops' bounds",
        **_BUSY,
        **{
            f"{reason}_stall_ps": f"time that engines wait for {text}"
            for reason, text in {
                reason: f"a result of the {reason} engines"
                if reason in _KINDS.values()
                else {"semaphore": "a signal", "bus": "the DRAM bus"}[reason]
                for reason in STALL_REASONS
            }.items()
        },
        "idle_ps": "time of engines after their last instruction",
        **_MOVED,
        "instructions": "of its program",
        "ops": "of its program",
    },
    "ops": {
        "component": "where it runs",
        "op": "its name, unique within the component",
        "module": "the checkpoint's module, below the component",
        "kind": "what it computes",
        "tile": "the tiling that was taken",
        "evaluations": "how often it runs for one image",
        **_MEASURED,
        "stall_ps": "the part of its latency in which no engine works",
        "bound_ps": "the least time of its busiest engine",
        "busiest_ps": "time of its busiest engine",
        "ratio": "the larger of latency and busiest engine, over the bound; NaN without a bound",
        "limited_by": "the kind of engine that works longest for it",
        **_BUSY,
        "macs": "useful multiply-accumulates",
        **_MOVED,
        **{f"{cause}_bytes": f"bytes that it moves as {cause}" for cause in _CAUSES},
        "instructions": "of the program",
        "origin": "the source ONNX nodes it stands for, separated by spaces",
    },
    "traffic": {
        "component": "where it is moved",
        "name": "the op, tensor, cause or direction",
        "evaluations": "how often the component runs for one image",
        "transfers": "DMA instructions",
        "bytes": "useful bytes, both directions",
        "image_bytes": "of all evaluations of an image",
        "read_bytes": "useful bytes from DRAM",
        "write_bytes": "useful bytes to DRAM",
        "bus_bytes": "bytes on the DRAM bus, whole bursts",
        "dma_ps": "time of the transfers themselves, set-up included, waiting left out",
    },
    "timeline": {
        "component": "whose program it is of",
        "instruction": "its place in the program",
        "engine": "which runs it, as in dma0",
        "opcode": "what it does",
        "op": "the op it is of",
        "module": "the op's module of the checkpoint",
        "cause": "why a transfer is made; empty for other instructions",
        "start_ps": "when it starts, from the component's start",
        "end_ps": "when it has ended",
        "duration_ps": "its own time, without waiting for the bus",
        "bytes": "useful bytes that a transfer moves; 0 for other instructions",
    },
    "transfers": {
        "component": "where it is moved",
        "instruction": "the DMA instruction; bytes loaded again are an entry of their own",
        "op": "the op it is for",
        "tensor": "the tensor in DRAM",
        "cause": "why it is moved",
        "direction": "read (from DRAM) or write",
        "bytes": "useful bytes",
        "bus_bytes": "bytes on the DRAM bus, whole bursts",
        "dma_ps": "time of the transfer itself, set-up included",
    },
    "tiles": {
        "component": "where the op runs",
        "op": "its name",
        "rank": "1 is the best",
        "tiling": "the axes that are cut, and into what",
        "taken": "whether the program has it",
        "slots": "copies of streamed buffers",
        "sram_bytes": "what it takes of SRAM; missing for those that were not tried",
        "dma_bytes": "bytes that it moves; missing for rejected ones, which are not costed",
        "instructions": "how many it takes; missing likewise",
        "time_ps": "its time, exact without overlap, with it an estimate; missing likewise",
        "rejected": "why it cannot be taken; empty for others",
    },
}
"""By frame, what each of its columns means, in order."""


def components_frame(profile: Profile) -> pd.DataFrame:
    """A row for each component."""
    total = profile.latency.total_ps

    def row(each: ComponentProfile) -> dict[str, Any]:
        latency = each.latency
        return {
            "component": each.name,
            "evaluations": each.evaluations,
            **_times(latency.latency_ps, each.evaluations, total),
            "bound_ps": latency.bound_ps,
            "fused_bound_ps": latency.fused_bound_ps,
            "serial_bound_ps": latency.serial_bound_ps,
            **_busy(latency.busy_ps),
            **{f"{reason}_stall_ps": ps for reason, ps in latency.stalls_ps},
            "idle_ps": latency.idle_ps,
            "dram_read_bytes": latency.dram_read_bytes,
            "dram_write_bytes": latency.dram_write_bytes,
            "instructions": latency.instructions,
            "ops": len(latency.ops),
        }

    return _frame("components", map(row, profile.components))


def ops_frame(profile: Profile) -> pd.DataFrame:
    """A row for each op, in the order of the pipeline and its programs."""
    total = profile.latency.total_ps

    def row(op: OpProfile) -> dict[str, Any]:
        latency = op.latency
        return {
            "component": op.component,
            "op": latency.name,
            "module": op.module,
            "kind": latency.kind,
            "tile": latency.tile,
            "evaluations": op.evaluations,
            **_times(latency.latency_ps, op.evaluations, total),
            "stall_ps": latency.stall_ps,
            "bound_ps": latency.bound_ps,
            "busiest_ps": latency.busiest_ps,
            "ratio": float("nan") if latency.ratio is None else latency.ratio,
            "limited_by": _KINDS[op.limited_by],
            **_busy(latency.busy_ps),
            "macs": op.macs,
            "dram_read_bytes": latency.dram_read_bytes,
            "dram_write_bytes": latency.dram_write_bytes,
            **{f"{cause}_bytes": op.bytes_by_cause.get(cause, 0) for cause in _CAUSES},
            "instructions": latency.instructions,
            "origin": " ".join(latency.origin),
        }

    return _frame("ops", map(row, profile.ops))


def traffic_frame(profile: Profile, by: View = "cause") -> pd.DataFrame:
    """A row for each component and cause (or ``op``, ``tensor``, ``direction``) that moved bytes.

    Raises UsageError for another view.
    """
    if by not in VIEWS:
        raise UsageError(f"by is {by!r}; expected one of {', '.join(VIEWS)}.")
    rows = [
        {
            "component": each.name,
            "name": traffic.name,
            "evaluations": each.evaluations,
            "transfers": traffic.transfers,
            "bytes": traffic.bytes,
            "image_bytes": each.evaluations * traffic.bytes,
            "read_bytes": traffic.read_bytes,
            "write_bytes": traffic.write_bytes,
            "bus_bytes": traffic.bus_bytes,
            "dma_ps": traffic.dma_ps,
        }
        for each in profile.components
        for traffic in each.ledger.by(by)
    ]
    return _frame("traffic", rows)


def timeline_frame(profile: Profile, components: Sequence[str]) -> pd.DataFrame:
    """A row for each instruction of ``components``, in program order."""

    def part(each: ComponentProfile) -> dict[str, Any]:
        program, timeline = each.program, each.timeline
        columns, dma = program.columns, timeline.work.dma
        moved = np.zeros(len(program), dtype=np.int64)
        moved[dma.index] = dma.useful_bytes
        return {
            "instruction": np.arange(len(program), dtype=np.int64),
            "engine": _named(timeline.engines, timeline.engine),
            "opcode": _named([code.name.lower() for code in Opcode], columns.opcode),
            "op": _named([op.name for op in program.ops], columns.op),
            "module": _named([op.scope or op.name for op in program.ops], columns.op),
            "cause": _named(["", *_CAUSES], columns.cause),
            "start_ps": timeline.start_ps,
            "end_ps": timeline.end_ps,
            "duration_ps": timeline.duration_ps,
            "bytes": moved,
        }

    return _parts("timeline", {name: part(profile.component(name)) for name in components})


def transfers_frame(profile: Profile, components: Sequence[str]) -> pd.DataFrame:
    """A row for each entry of the ledgers of ``components``; they add up to all DRAM traffic."""

    def part(each: ComponentProfile) -> dict[str, Any]:
        ledger = each.ledger
        return {
            "instruction": ledger.instruction,
            "op": _named(ledger.names["op"], ledger.key["op"]),
            "tensor": _named(ledger.names["tensor"], ledger.key["tensor"]),
            "cause": _named(CAUSES, ledger.key["cause"]),
            "direction": _named(DIRECTIONS, ledger.key["direction"]),
            "bytes": ledger.useful_bytes,
            "bus_bytes": ledger.bus_bytes,
            "dma_ps": ledger.dma_ps,
        }

    return _parts("transfers", {name: part(profile.component(name)) for name in components})


def _times(latency_ps: int, evaluations: int, image_ps: int) -> dict[str, int | float]:
    of_image = evaluations * latency_ps
    return {
        "latency_ps": latency_ps,
        "latency_ms": latency_ps / PS_PER_MS,
        "image_latency_ps": of_image,
        "image_latency_ms": of_image / PS_PER_MS,
        "share_percent": 100 * of_image / image_ps if image_ps else 0.0,
    }


def _busy(busy_ps: Mapping[EngineKind, int]) -> dict[str, int]:
    return {f"{_KINDS[kind]}_busy_ps": ps for kind, ps in busy_ps.items()}


def _named(names: Sequence[str], codes: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """The name of each code; rows share the texts."""
    table = np.empty(len(names), dtype=object)
    table[:] = names
    named: npt.NDArray[np.object_] = table[codes]
    return named


def _frame(name: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS[name]))


def _parts(name: str, parts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frames = [
        pd.DataFrame({"component": component, **part}, columns=list(COLUMNS[name]))
        for component, part in parts.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else _frame(name, [])


def tilings_frame(choices: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Records of ``toolchain.reporting.tile_choices``, a row a tiling."""
    import pandas as pd

    rows = [
        {**row, "component": choice["component"], "op": choice["op"]}
        | {"taken": row["tiling"] == choice["taken"] and not row["rejected"]}
        for choice in choices
        for row in choice["candidates"]
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS["tiles"]))
    costs = ("sram_bytes", "dma_bytes", "instructions", "time_ps")
    return frame.astype(dict.fromkeys(costs, "Int64"))
