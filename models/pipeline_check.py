"""Everything that can be wrong with a pipeline folder, looked for before any work.

From JSON files, headers of weights and lists of files; networks are built and run without memory,
on torch's meta device. What passes can be loaded, traced and run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefusion.models.checkpoint import as_input_error, quiet_libraries
from edgefusion.models.folder_index import CLASSES, FOLDERS, read_index
from edgefusion.models.network_configs import NetworkConfigs
from edgefusion.models.pipeline_files import check_tokenizer
from edgefusion.models.scheduler_check import check_scheduler
from edgefusion.models.weight_files import adapters, check_shapes, unread, weight_files
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from torch import nn

    from edgefusion.models.architectures import Component
    from edgefusion.models.source import Source


def checked_source(source: Source, wanted: Sequence[str] | None, say: Say) -> Source:
    """``source`` with those components alone that can be used, for ``wanted`` ones (None: all).

    A component that is not wanted and does not pass is left out with a remark: others are then
    calibrated without it. Raises InputError for a wanted one that does not pass, for parts of the
    pipeline that would be dropped, and for adapters beside it. Presets and .onnx files pass.
    """
    if source.kind not in ("folder", "hub") or source.path is None:
        return source
    folder = source.path
    index = read_index(folder)
    # 1. Parts
    for remark in index.remarks(wanted):
        say(f"{source.name}: {remark}")
    chosen = [c for c in index.components if wanted is None or c in wanted]
    if set(chosen) & {"text_encoder", "unet"}:
        _refuse_adapters(folder)
    if beside := unread(folder, index.parts):
        more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
        say(f"{source.name}: not read, for no part is in them: {', '.join(beside[:3])}{more}")
    # 2. Networks: what configurations say, and then what they make
    configs = NetworkConfigs(folder, index.components)
    usable = list(index.components)
    for check in (configs.check, partial(_check_network, source)):
        for component in tuple(usable):
            try:
                remarks = check(component)
            except InputError as error:
                if component in chosen:
                    raise
                usable.remove(component)
                left_out = f"{component} is not used to calibrate others"
                say(f"warning: {source.name}: {left_out}: {error}")
                continue
            for remark in remarks if component in chosen else ():
                say(f"{source.name}: {component}: {remark}")
    # 3. What runs them
    if set(chosen) & {"text_encoder", "unet"} and (lacking := check_tokenizer(source, index)):
        say(f"warning: {source.name}: {lacking}")
    if "unet" in chosen and (replaced := check_scheduler(folder, index)):
        say(f"warning: {source.name}: {replaced}")
    return replace(source, components=tuple(usable))


def _refuse_adapters(folder: Path) -> None:
    found = adapters(folder)
    if found:
        more = f" (and {len(found) - 1} more such files)" if len(found) > 1 else ""
        raise InputError(
            f"{found[0]}{more} is a LoRA, adapter or textual inversion beside the pipeline; it "
            "would not be applied, and pictures would be those of the base model. Fuse it first "
            "(diffusers: pipe.load_lora_weights(...); pipe.fuse_lora(); "
            "pipe.unload_lora_weights(); pipe.save_pretrained('fused'); embeddings by "
            "pipe.load_textual_inversion) and compile that folder; or move the file away, to "
            "compile the base model."
        )


def _check_network(source: Source, component: Component) -> list[str]:
    """Weights against the configuration, and a run without values; remarks on the files."""
    import torch

    from edgefusion.models.components import (
        VaeDecoder,
        as_graph,
        example_inputs,
        output_shape,
        signature,
    )

    assert source.path is not None
    place = source.path / FOLDERS[component]
    files = weight_files(place, component)
    stored = files.shapes()
    module = _on_meta(place, component)
    check_shapes(place, stored, {k: tuple(v.shape) for k, v in module.state_dict().items()})
    whole: Any = VaeDecoder(module) if component == "vae_decoder" else module
    ports = signature(component, whole, source.sizes)
    with as_input_error(place), torch.device("meta"), torch.no_grad():
        made = as_graph(component, whole)(*(x.to("meta") for x in example_inputs(ports)))
    expected = output_shape(whole, ports)
    if tuple(made.shape) != expected:
        raise InputError(
            f"{place}: the network that config.json describes makes {list(made.shape)}; expected "
            f"{list(expected)}. Correct config.json, or download the component again."
        )
    names = ", ".join(path.name for path in files.used)
    return [f"weights from {names}; not read: {', '.join(files.unused)}"] if files.unused else []


def _on_meta(place: Path, component: Component) -> nn.Module:
    """The network that config.json describes, without memory."""
    import diffusers
    import torch
    import transformers

    library = transformers if component == "text_encoder" else diffusers
    network: Any = getattr(library, CLASSES[component])
    with quiet_libraries(), as_input_error(place), torch.device("meta"):
        if component == "text_encoder":
            config = transformers.CLIPTextConfig.from_pretrained(place, local_files_only=True)
            made = network(config)
        else:
            made = network.from_config(network.load_config(place, local_files_only=True))
    module: nn.Module = made.eval()
    return module
