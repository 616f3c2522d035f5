"""Everything that can be wrong with a pipeline folder, looked for before any work.

From JSON files, headers of weights and lists of files; networks are built and run without memory,
on torch's meta device. What passes can be loaded, traced and run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import as_input_error, described_network
from edgefusion.models.folder_index import PipelineIndex
from edgefusion.models.onnx_component import check_timestep
from edgefusion.models.original_layout import stored_shapes
from edgefusion.models.pipeline_files import check_tokenizers
from edgefusion.models.room_check import check_memory
from edgefusion.models.scheduler_check import check_scheduler
from edgefusion.models.weight_files import (
    adapters,
    check_shapes,
    expected_shapes,
    unread,
    weight_files,
)
from edgefusion.runtime.errors import DoesNotFitError, InputError
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.models.lora import Lora, Updates
    from edgefusion.models.source import Source


def checked_source(source: Source, wanted: Sequence[str] | None, say: Say) -> Source:
    """``source`` with those components alone that can be used, for ``wanted`` ones (None: all).

    A component that is not wanted and does not pass is left out with a remark: others are then
    calibrated without it. Raises InputError for a wanted one that does not pass, for parts of the
    pipeline that would be dropped, and for adapters beside it, and DoesNotFitError for a wanted one
    that memory has no room for. Presets pass else, and .onnx files but those that cannot take the
    scheduler's timesteps.
    """
    if source.architecture is not None:
        return source
    if source.kind == "onnx" and source.path is not None:
        check_timestep(source.path, source.scheduler)
    index = source.index
    if index is None:
        return source
    folder = index.path.parent
    reading = {*(part.component for part in index.family.encoders), index.family.denoiser.component}
    # 1. Parts
    for remark in index.remarks(wanted):
        say(f"{source.name}: {remark}")
    chosen = [c for c in index.components if wanted is None or c in wanted]
    if set(chosen) & reading:
        for remark in _adapters_beside(index, source.loras):
            say(f"warning: {source.name}: {remark}")
    if source.file is None and (beside := unread(folder, index.parts)):
        more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
        say(f"{source.name}: not read, for no part is in them: {', '.join(beside[:3])}{more}")
    # 2. What runs them
    if index.family.denoiser.component in chosen and (told := check_scheduler(source, index)):
        say(told)
    # 3. Networks: what configurations say, and then what they make
    usable = list(index.components)

    updates = _checked_updates(source, index)

    def check_network(index: PipelineIndex, component: str) -> list[str]:
        return _check_network(index, component, source, updates)

    for check in (_check_config, check_network):
        for component in tuple(usable):
            try:
                remarks = check(index, component)
            except (InputError, DoesNotFitError) as error:
                if component in chosen:
                    raise
                usable.remove(component)
                say(_left_out(source, component, error))
                continue
            for remark in remarks if component in chosen else ():
                say(f"{source.name}: {component}: {remark}")
    if set(chosen) & reading:
        for lacking in check_tokenizers(source, index):
            say(f"warning: {source.name}: {lacking}")
    return replace(source, components=tuple(usable))


def _left_out(source: Source, component: str, error: Exception) -> str:
    return f"warning: {source.name}: {component} is not used to calibrate others: {error}"


def _adapters_beside(index: PipelineIndex, used: Sequence[Lora]) -> list[str]:
    """Remarks on LoRA files that are not used; InputError for what cannot be."""
    found = adapters(index.path.parent, {part.folder for part in index.family.parts})
    if found.others:
        more = f" (and {len(found.others) - 1} more such files)" if len(found.others) > 1 else ""
        raise InputError(
            f"{found.others[0]}{more} is an adapter or textual inversion beside the pipeline; it "
            "would not be applied, and pictures would be those of the base model. Fuse it first "
            "(diffusers: pipe.load_textual_inversion, or the tool it was made for; then "
            "pipe.save_pretrained('fused')) and compile that folder; or move the file away, to "
            "compile the base model."
        )
    applied = {lora.path.resolve() for lora in used}
    return [
        f"{path} is a LoRA and is not applied: pictures are those without it. Apply it with "
        f"--lora {path}"
        for path in found.loras
        if path.resolve() not in applied
    ]


def _checked_updates(source: Source, index: PipelineIndex) -> Sequence[tuple[Lora, Updates]]:
    """What the source's LoRAs change. Raises InputError for one that changes networks which the
    pipeline has not."""
    updates = source.updates()
    parts = index.family.parts
    having = [part.component for part in parts if part.role in ("encoder", "denoiser")]
    for lora, found in updates:
        for component, modules in found.items():
            if component not in having:
                lora.check(component or "pipeline", modules, {})
    return updates


def _check_config(index: PipelineIndex, component: str) -> list[str]:
    """What config.json says, by itself and beside the others; remarks on keys without meaning."""
    config = index.configs.of(component)
    if not config.values:
        raise InputError(
            f"{config.path} is missing or empty; it says what network the weights "
            "beside it are of. Download the component again."
        )
    if config.values.get("quantization_config") is not None:
        raise config.error(
            "quantization_config",
            "its weights are quantized already; expected floating-point ones. Take the "
            "checkpoint that it was made from.",
        )
    index.family.check(index.configs, component)
    kind = index.compiled[component].kind
    if kind.library == "transformers":  # its configurations hold keys of all kinds
        return []
    known = signature(kind.library_class().__init__).parameters
    found = sorted(key for key in config.values if key not in known and not key.startswith("_"))
    return [f"{config.path}: no meaning is known for {', '.join(found)}"] if found else []


def _check_network(
    index: PipelineIndex,
    component: str,
    source: Source,
    loras: Sequence[tuple[Lora, Updates]],
) -> list[str]:
    """Weights against the configuration, and a run without values; remarks on the files."""
    import torch

    part, place = index.compiled[component], index.place(component)
    if (given := source.given_graph(component)) is not None:
        for lora, updates in loras:
            if updates.get(component):
                raise InputError(
                    f"the LoRA {lora.path} changes {component}, of which {place} holds a graph, "
                    "and no weights by module. Compile the pipeline's torch weights with it."
                )
        check_timestep(given.path, source.scheduler)
        return []
    files = None
    if source.file is None:
        files = weight_files(place, part.kind, source.variant)
        if not files.are_safetensors:
            check_memory(str(place), sum(path.stat().st_size for path in files.used))
        stored = files.shapes()
    else:
        stored = stored_shapes(source.file, index.path.parent, part)
    with torch.device("meta"):
        module = described_network(place, part)
    shapes_of = expected_shapes(module, stored)
    check_shapes(source.file or place, stored, shapes_of)
    for lora, updates in loras:
        lora.check(component, updates.get(component, {}), shapes_of)
    compiled: Any = part.kind.part(module)
    ports = source.signature(component, compiled.config)
    with as_input_error(place), torch.device("meta"), torch.no_grad():
        made = part.kind.graph(compiled)(*(x.to("meta") for x in ports.examples()))
    results = made if isinstance(made, tuple) else (made,)
    shapes, expected = [list(x.shape) for x in results], [list(p.shape) for p in ports.outputs]
    if shapes != expected:
        raise InputError(
            f"{place}: the network that config.json describes makes {_listed(shapes)}; expected "
            f"{_listed(expected)}. Correct config.json, or download the component again."
        )
    return [files.remark] if files and files.remark else []


def _listed(shapes: Sequence[Sequence[int]]) -> str:
    return " and ".join(str(list(shape)) for shape in shapes)
