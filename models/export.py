"""A component of a source becomes an ONNX file: static shapes, external weights, fixed names.

`<component>.onnx` holds the graph and small constants, `<component>.onnx.data` beside it the
weights. The same weights give the same bytes, whichever process, folder or machine exports them.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgefusion.compiler.graph.opset import OPSET
from edgefusion.models.onnx_source import INLINE_BYTES, check_onnx
from edgefusion.models.onnx_weights import data_file
from edgefusion.models.room_check import check_disk
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.files import put_together
from edgefusion.runtime.partials import partial_folder
from edgefusion.runtime.progress import Say, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from edgefusion.models.source import Source


def export_component(
    source: Source,
    component: str,
    directory: Path,
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    progress: Say | None = None,
) -> Path:
    """Writes `directory`/`component`.onnx and its .data file, and returns the former's path.

    Names and shapes (float32 unless stated, N = `batch`; sizes of Stable Diffusion v1):
    - text_encoder: input_ids int64 [N, 77] -> hidden_states [N, 77, 768]
    - unet: sample [N, 4, 64, 64], timestep int64 [1] (float32 for schedulers of sigmas, such as
      Euler's), encoder_hidden_states [N, 77, 768] (and timestep_cond [N, width] for a
      latent-consistency student) -> noise_pred [N, 4, 64, 64]
    - vae_decoder: latent [N, 4, 64, 64] -> image [N, 3, 512, 512]; the latent is already divided
      by the scaling factor, which is not part of the graph.

    Those of other families say ``models.networks`` and ``models.families``.

    Each node's metadata `origin` names its module, such as `down_blocks.0.resnets.0.conv1`. A graph
    that a pipeline's folder has in place of weights, and an .onnx source, is checked and written in
    the same form; of the latter `shapes` fixes its dynamic inputs, and
    `batch` must be 1. `progress` hears a line as each stage starts.

    Files appear whole or not at all. Raises InputError for a damaged source, UsageError for a
    component that the source has not, DoesNotFitError for a disk without room.
    """
    say = progress if progress is not None else silent
    if component not in source.components:
        raise UsageError(
            f"{source.name} has no component {component}; it holds "
            f"{', '.join(source.components)}. Choose among these."
        )
    if batch < 1:
        raise UsageError(f"The batch size is {batch}; expected 1 or more.")
    if source.kind == "onnx":
        if batch != 1:
            raise UsageError(
                f"The batch size {batch} was given with the file {source.path}, whose shapes are "
                "its own; expected 1. Give the shapes with --shape."
            )
        assert source.path is not None
        say(f"{component}: checking {source.path}")
        proto = check_onnx(source.path, shapes=shapes)
        model = ir.from_proto(proto)
        _resolve_external_data(model, source.path)
    elif shapes:
        raise UsageError(
            f"Shapes were given with {source.name}, whose configuration fixes them; expected "
            "them with .onnx files alone. Leave --shape out."
        )
    elif (given := source.given_graph(component, batch)) is not None:
        say(f"{component}: checking {given.path}")
        model = given.imported()
        _resolve_external_data(model, given.path)
    else:
        say(f"{component}: reading the network")
        model = _trace(source, component, batch, say, directory)
    say(f"{component}: writing")
    target = _write(model, component, directory)
    del model
    gc.collect()  # traced programs are cyclic, and would keep the weights in memory
    return target


def _trace(source: Source, component: str, batch: int, say: Say, directory: Path) -> ir.Model:
    """The component as a cleaned graph, whose weights are read when they are written into
    ``directory``."""
    import torch

    from edgefusion.models.export_graph import clean_graph, first_dynamic_value
    from edgefusion.models.export_weights import bind_weights

    outline = source.outline(component)
    module: Any = outline.module
    weights = sum(parameter.numel() for parameter in module.parameters())
    check_disk(f"{component} of {source.name}", 4 * weights, directory)
    names = outline.stand_ins()
    say(f"{component}: tracing")
    kind = source.part(component).kind
    ports = source.signature(component, module.config, batch)
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            kind.graph(module).eval(),
            ports.examples(),
            dynamo=True,
            input_names=[port.name for port in ports.inputs],
            output_names=[port.name for port in ports.outputs],
            opset_version=OPSET,
            optimize=False,  # with values alone, which come next
            external_data=True,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        bind_weights(program.model.graph, names, outline.values)
        program.optimize()
    model: ir.Model = program.model
    clean_graph(model, component)
    dynamic = first_dynamic_value(model.graph)
    if dynamic is not None:
        raise RuntimeError(f"the export of {component} left {dynamic} without a static shape")
    return model


def _resolve_external_data(model: ir.Model, path: Path) -> None:
    """Let weights be read where they are: what the graph file calls a data file may be a link."""
    for name, value in model.graph.initializers.items():
        stored = value.const_value
        if isinstance(stored, ir.ExternalTensor):
            file = data_file(path, str(stored.location), f"the weight {name}").resolve()
            value.const_value = ir.ExternalTensor(
                file.name,
                stored.offset,
                stored.length,
                stored.dtype,
                shape=stored.shape,
                name=name,
                base_dir=file.parent,
            )


def _write(model: ir.Model, component: str, directory: Path) -> Path:
    """Saves into a folder beside the target, then renames, the graph file last."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{component}.onnx"
    data_name = f"{component}.onnx.data"
    with partial_folder(directory) as temporary:
        written = temporary / target.name
        ir.save(
            model,
            written,
            external_data=data_name,
            size_threshold_bytes=INLINE_BYTES,
            max_workers=1,  # a worker holds a copy of the tensor it writes
        )
        data = temporary / data_name
        if not data.exists():  # when every weight is small
            data.touch()
        put_together({data: directory / data_name, written: target})
        if not (directory / data_name).stat().st_size:
            (directory / data_name).unlink()
    return target


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """The exporter prints its stages and warns about itself; errors still come as exceptions."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
