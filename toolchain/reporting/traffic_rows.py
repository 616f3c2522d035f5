"""The rows of traffic reports: bytes of a whole image by op, tensor, cause or component."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from edgefusion.runtime.latency import PS_PER_MS
from edgefusion.runtime.ledger import Ledger, Traffic
from edgefusion.toolchain.profiling.profile import OpProfile, Profile

TrafficView = Literal["op", "tensor", "cause", "component"]
VIEWS: tuple[TrafficView, ...] = ("component", "cause", "op", "tensor")
_RANKED = ("op", "tensor")


def traffic_rows(
    profile: Profile, view: TrafficView, ops: Collection[OpProfile] | None = None
) -> list[dict[str, Any]]:
    """A row a name of ``view`` that moved something, figures of all evaluations of an image.

    Ops and tensors are ranked over the whole image, with ``cumulative_percent``; components and
    causes stand in the order of the pipeline. With ``ops``, only what they move; shares are of the
    whole image all the same. ``op``, ``kind`` and ``module`` are those of the op, of a tensor
    those of the op that moves most of it, else empty.
    """
    total = profile.dram_bytes
    known = {(op.component, op.name): op for op in profile.ops}
    rows = []
    for everything, evaluations in profile.traffic:
        ledger = everything if ops is None else _of_ops(everything, ops)
        movers = _movers(ledger, view)
        causes = _causes(ledger, view)
        for entry in (ledger.total(),) if view == "component" else ledger.by(view):
            if not entry.transfers and not entry.bytes:
                continue
            mover = known.get((ledger.component, movers.get(entry.name, "")))
            rows.append(
                {
                    "component": ledger.component,
                    "name": entry.name,
                    "op": mover.name if mover else "",
                    "module": mover.module if mover else "",
                    "path": mover.path if mover else ledger.component,
                    "kind": mover.latency.kind if mover else "",
                    "evaluations": evaluations,
                    **_image(entry, evaluations, total),
                    **_again(causes.get(entry.name, {}), evaluations),
                }
            )
    if view not in _RANKED:
        return rows
    rows.sort(key=lambda row: -row["image_bytes"])
    so_far = 0
    for row in rows:
        so_far += row["image_bytes"]
        row["cumulative_percent"] = share_percent(so_far, total)
    return rows


def _of_ops(ledger: Ledger, ops: Collection[OpProfile]) -> Ledger:
    return ledger.of_ops([op.name for op in ops if op.component == ledger.component])


def _image(entry: Traffic, evaluations: int, total_bytes: int) -> dict[str, Any]:
    image_bytes = evaluations * entry.bytes
    return {
        "image_bytes": image_bytes,
        "share_percent": share_percent(image_bytes, total_bytes),
        "image_read_bytes": evaluations * entry.read_bytes,
        "image_write_bytes": evaluations * entry.write_bytes,
        "image_bus_bytes": evaluations * entry.bus_bytes,
        "image_transfers": evaluations * entry.transfers,
        "image_dma_ms": evaluations * entry.dma_ps / PS_PER_MS,
    }


def _again(by_cause: Mapping[str, int], evaluations: int) -> dict[str, int]:
    """Bytes that more SRAM would save: those put aside and fetched back, and those read again."""
    return {
        f"image_{cause}_bytes": evaluations * by_cause.get(cause, 0)
        for cause in ("spill", "reread")
    }


def _causes(ledger: Ledger, view: TrafficView) -> dict[str, dict[str, int]]:
    """Bytes by cause under each name of ``view``."""
    if view == "component":
        return {ledger.component: ledger.bytes_by_cause()}
    return ledger.bytes_by_two(view, "cause")


def _movers(ledger: Ledger, view: TrafficView) -> dict[str, str]:
    """The op behind each name of ``view``; of a tensor, the one that moves most of it."""
    if view == "op":
        return {row.name: row.name for row in ledger.by("op")}
    if view != "tensor":
        return {}
    shares = ledger.bytes_by_two("tensor", "op")
    return {name: max(by_op, key=by_op.__getitem__) for name, by_op in shares.items()}


def share_percent(part: int, whole: int) -> float:
    """``part`` of ``whole`` in percent; 0 of nothing."""
    return 100 * part / whole if whole else 0.0
