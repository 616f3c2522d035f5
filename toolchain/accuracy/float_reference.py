"""The FP32 reference of a bundle's component: its own graph, with the weights that it had before
they were rounded.

The bundle holds rounded weights alone, so this exports the source again and runs those passes that
change no value. The result has the bundle's names for all activations, so it compares op by op.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgefusion.models.export import export_component
from edgefusion.models.source import SHIPPED, Source, resolve_source
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.optimise import optimise
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.quantize_w8a16 import QuantizeW8A16
from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

_ROUNDING = (AssignPrecision, QuantizeW8A16, PartitionHost)


@dataclass(frozen=True, slots=True)
class ReferenceGraph:
    """A graph to compare with, the folder of its external data, and what its weights are."""

    model: onnx.ModelProto
    folder: Path
    weights: str


SOURCE_WEIGHTS = "source"
BUNDLE_WEIGHTS = "bundle"


def source_of(bundle: Bundle, given: str | None, say: Say) -> Source | None:
    """The bundle's source: ``given`` (a path or name), else found by the manifest; None if it
    cannot be found.

    Raises InputError for a ``given`` source whose content is not what the bundle was made from.
    """
    info = bundle.manifest.source
    if given is None and info.kind not in ("preset", "hub") and info.name not in SHIPPED:
        return None
    try:
        seed = info.seed if info.kind == "preset" else None
        source = resolve_source(given or info.name, random_weights_seed=seed)
        same = source.digest == info.digest
    except EdgeFusionError as error:
        if given is not None:
            raise
        say(f"warning: the source {info.name} cannot be read: {error}")
        return None
    if same:
        return source
    if given is not None:
        raise InputError(
            f"{given} is not what the bundle was compiled from: its digest is "
            f"{source.digest[:16]}…, the manifest says {info.digest[:16]}…. Name the same source."
        )
    say(f"warning: the source {info.name} has changed since the bundle was compiled")
    return None


def reference_graph(
    bundle: Bundle, component: str, source: Source | None, folder: Path, say: Say
) -> ReferenceGraph:
    """The component with the weights of ``source``, written below ``folder``; with the bundle's
    rounded ones where there is no source."""
    rounded = bundle.graph_model(component)
    if source is None:
        return ReferenceGraph(rounded, bundle.path.parent, BUNDLE_WEIGHTS)
    shapes = None
    if source.kind == "onnx":
        shapes = {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in rounded.graph.input
        }
    place = folder / component
    exported = export_component(source, component, place / "export", shapes=shapes, progress=say)
    timesteps = bundle.manifest.component(component).timesteps
    passes = tuple(p for p in default_passes(timesteps=timesteps) if not isinstance(p, _ROUNDING))
    graph, _ = optimise(exported, component, bundle.machine, passes, say)
    graph.save(place / "graph.onnx", place / "weights.safetensors")
    for file in (exported, exported.with_name(f"{exported.name}.data")):
        file.unlink(missing_ok=True)
    model = onnx.load(place / "graph.onnx", load_external_data=False)
    made = {name for node in model.graph.node for name in node.output}
    wanted = {name for node in rounded.graph.node for name in node.output if not _constant(node)}
    if not wanted <= made:
        say(
            f"warning: this version compiles {component} to another graph than the bundle's "
            f"(it lacks '{min(wanted - made)}'); comparing with the bundle's weights instead"
        )
        return ReferenceGraph(rounded, bundle.path.parent, BUNDLE_WEIGHTS)
    return ReferenceGraph(model, place, SOURCE_WEIGHTS)


def _constant(node: onnx.NodeProto) -> bool:
    """Whether a node only unpacks a rounded weight."""
    return node.op_type == "DequantizeLinear" or (
        node.op_type == "Cast" and node.output[0].endswith("_fp32")
    )
