"""A component's graph with the weights that it had before they were rounded.

The bundle holds rounded weights alone, so this takes the source's export and runs those passes that
change no value. The result has the bundle's names for all activations, so it compares op by op. It
shares whatever the passes got wrong, so nothing passes or fails by it (``source_network``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgefusion.compiler.bundle.check import GRAPH, WEIGHTS
from edgefusion.models.families.registry import family_named
from edgefusion.models.shipped import SHIPPED
from edgefusion.models.source import Source, resolve_source
from edgefusion.passes.assign_precision import AssignPrecision
from edgefusion.passes.optimise import optimise
from edgefusion.passes.partition_host import PartitionHost
from edgefusion.passes.pipeline import default_passes
from edgefusion.passes.quantize_w8a16 import QuantizeW8A16
from edgefusion.passes.transpose_upsampled_conv import TransposeUpsampledConv
from edgefusion.runtime.errors import EdgeFusionError, InputError
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.passes.pass_base import Pass
    from edgefusion.runtime.machine import Machine

_ROUNDING = (AssignPrecision, QuantizeW8A16, PartitionHost)


@dataclass(frozen=True, slots=True)
class ReferenceGraph:
    """A graph to compare with, the folder of its external data, and what its weights are."""

    model: onnx.ModelProto
    folder: Path
    weights: str


_FOUND_BY_NAME = ("preset", "hub")
SOURCE_WEIGHTS = "source"
BUNDLE_WEIGHTS = "bundle"


def source_of(
    bundle: Bundle, given: str | None, say: Say, loras: Sequence[str] = ()
) -> Source | None:
    """The bundle's source: ``given`` (a path or name), else found by the manifest; None if it
    cannot be found. ``loras`` are the files that were fused into it, FILE or FILE:SCALE each.

    Raises InputError for a ``given`` source whose content is not what the bundle was made from.
    """
    info = bundle.manifest.source
    if given is None and info.kind not in _FOUND_BY_NAME and info.name not in SHIPPED:
        return None
    if info.loras and not loras:
        names = ", ".join(f"{each.name}:{each.scale:g}" for each in info.loras)
        missing = f"the bundle was compiled with --lora {names}"
        if given is not None:
            raise InputError(f"{missing}; expected these files beside --source. Name them.")
        say(f"warning: {missing}; the source is not compared without these files")
        return None
    try:
        seed = info.seed if info.kind == "preset" else None
        source = resolve_source(
            given or info.name, random_weights_seed=seed, variant=info.variant, loras=loras
        )
        source = replace(source, deployment=bundle.manifest.deployment)
        if source.kind != "onnx":
            source = source.of_family(family_named(info.family))
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


def is_found_by_name(source: Source) -> bool:
    """Whether ``source_of`` will find ``source`` where only the bundle is at hand."""
    named = source.kind in _FOUND_BY_NAME or source.path in SHIPPED.values()
    return named and not source.loras


def unrounded(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """Those of ``passes`` that change no value."""
    return tuple(each for each in passes if not isinstance(each, _ROUNDING))


def exact_graph(
    exported: Path,
    component: str,
    machine: Machine,
    timesteps: Sequence[float],
    folder: Path,
    say: Say,
    *,
    transposing: bool = True,
) -> Path:
    """``folder``/graph.onnx with its weights beside it: the export after all passes but those that
    round."""
    passes = unrounded(default_passes(timesteps=tuple(timesteps), transposing=transposing))
    graph, _ = optimise(exported, component, machine, passes, say)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / GRAPH
    graph.save(path, folder / WEIGHTS)
    return path


def reference_graph(
    bundle: Bundle, component: str, exported: Path | None, folder: Path, say: Say
) -> ReferenceGraph:
    """The component with the weights of the source, whose export is ``exported``, written to
    ``folder``; with the bundle's rounded ones where there is none."""
    rounded = bundle.graph_model(component)
    if exported is None:
        return ReferenceGraph(rounded, bundle.path.parent, BUNDLE_WEIGHTS)
    info = bundle.manifest.component(component)
    path = exact_graph(
        exported,
        component,
        bundle.machine,
        info.timesteps,
        folder,
        say,
        transposing=any(each.name == TransposeUpsampledConv.name for each in info.passes),
    )
    model = onnx.load(path, load_external_data=False)
    made = {name for node in model.graph.node for name in node.output}
    wanted = {name for node in rounded.graph.node for name in node.output if not _constant(node)}
    if not wanted <= made:
        say(
            f"warning: this version compiles {component} to another graph than the bundle's "
            f"(it lacks '{min(wanted - made)}'); its layers are compared with the bundle's weights"
        )
        return ReferenceGraph(rounded, bundle.path.parent, BUNDLE_WEIGHTS)
    return ReferenceGraph(model, folder, SOURCE_WEIGHTS)


def _constant(node: onnx.NodeProto) -> bool:
    """Whether a node only unpacks a rounded weight."""
    return node.op_type == "DequantizeLinear" or (
        node.op_type == "Cast" and node.output[0].endswith("_fp32")
    )
