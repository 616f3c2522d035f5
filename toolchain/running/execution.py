"""Networks of a bundle that can be called: by the simulated NPU, or by ONNX Runtime in FP32.

Both take named arrays of real numbers and give named arrays, as ``models.text_to_image`` wants
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.models.families.family import Part
from edgefusion.models.pipeline_files import PipelineConfig
from edgefusion.models.text_to_image import Network, Sampling
from edgefusion.models.tokenization import (
    HashingTokenizer,
    PromptReader,
    Tokenizer,
    own_tokenizer,
)
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.profiling.pipeline import config_of, family_of, scheduler_of
from edgefusion.toolchain.running.ports import declared_outputs, input_shapes

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.runtime.executor import Executor
    from edgefusion.runtime.program import Program

Array = npt.NDArray[Any]


def npu_executor(
    bundle: Bundle,
    component: str,
    *,
    say: Say | None = None,
    host: str = "tvm",
    checked: bool = True,
) -> tuple[Program, Executor]:
    """A component's program and what executes it, instruction by instruction.

    ``checked`` watches every access to memory (``runtime.executor``); values are the same without.

    Raises InputError for a bundle without calibration.
    """
    from edgefusion.compiler.bundle.host import open_host
    from edgefusion.runtime.executor import Executor

    require_calibrated(bundle, component)
    program = bundle.program(component, verify=False)  # the executor verifies it
    hosts = open_host(bundle, component, host)
    if say is not None:
        for remark in hosts.remarks:
            say(f"{component}: {remark}")
        say(f"{component}: loading {len(program)} instructions and their constants")
    constants = bundle.weights(component)
    executor = Executor(program, bundle.machine, constants, hosts=hosts.functions, checked=checked)
    return program, executor


def npu_network(
    bundle: Bundle, component: str, *, say: Say | None = None, host: str = "tvm"
) -> Network:
    """A component on the simulated NPU; see ``npu_executor``. What depends on inputs that are those
    of the run before is not computed again."""
    _, executor = npu_executor(bundle, component, say=say, host=host)
    graph = bundle.graph_model(component).graph
    info = bundle.manifest.component(component)
    last: dict[str, Array] = {}

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        check_timestep(info.timesteps, inputs)

        def progress(done: int, count: int) -> None:
            if say is not None:
                say(f"{component}: instruction {done} of {count}")

        given = {name: np.array(inputs[name]) for name in info.constant_inputs if name in inputs}
        again = bool(last) and all(np.array_equal(given[name], last[name]) for name in last)
        last.clear()  # until the run is whole
        found = executor.run(inputs, progress=progress, again=again).outputs
        last.update(given)
        return declared_outputs(graph, inputs, found)

    return run


def reference_network(bundle: Bundle, component: str) -> Network:
    """A component's graph in ONNX Runtime: FP32, with the weights of the bundle."""
    from edgefusion.toolchain.running.float_network import float_network

    compute = float_network(bundle.graph_model(component), bundle.path.parent, component)
    timesteps = bundle.manifest.component(component).timesteps

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        check_timestep(timesteps, inputs)
        return compute(inputs)

    return run


def check_timestep(tabulated: Sequence[float], inputs: Mapping[str, Array]) -> None:
    """Raises InputError for a timestep that a network with tables has none for."""
    if not tabulated or "timestep" not in inputs:
        return
    timestep = float(np.asarray(inputs["timestep"]).flat[0])
    if timestep not in tabulated:
        known = ", ".join(f"{each:g}" for each in tabulated)
        raise InputError(
            f"timestep {timestep:g}: the bundle has tables for {known} "
            "only. Compile with the --steps that it belongs to, or with --any-timestep."
        )


def require_calibrated(bundle: Bundle, *components: str) -> None:
    """Raises InputError if one of the components has INT16 activations without scales."""
    from edgefusion.compiler.bundle.scales import PLACEHOLDER

    for name in components:
        if bundle.manifest.component(name).scales.method == PLACEHOLDER:
            raise InputError(
                f"{bundle.path}: {name} was compiled without calibration, so its INT16 tensors "
                "have no scale; it has latency but no values. Compile again with "
                "--calibration-prompts 2 or more."
            )


def pipeline_of(bundle: Bundle) -> tuple[PipelineConfig, Sampling]:
    """What running the bundle as a text-to-image pipeline needs.

    Raises InputError for a bundle without all of its family's networks.
    """
    family = family_of(bundle)
    missing = [name for name in family.components if name not in bundle.components]
    if missing:
        raise InputError(
            f"{bundle.path} holds {', '.join(bundle.components)}; an image needs "
            f"{', '.join(missing)} too. Compile the whole pipeline, or run one network with "
            "--component and --inputs."
        )
    config = config_of(bundle)
    deployment = bundle.manifest.deployment
    tabulated = bundle.manifest.component(family.denoiser.component).timesteps
    shapes = {
        name: shape
        for part in family.each_step
        for name, shape in input_shapes(bundle, part.component).items()
    }
    return config, Sampling(
        shapes,
        scheduler_of(bundle),
        config.scaling_factor,
        tuple(tabulated),
        family,
        deployment.guidance,
        config.shift_factor,
        deployment.control_scale,
    )


def prompt_reader(bundle: Bundle, config: PipelineConfig, say: Say) -> PromptReader:
    """The pipeline's own tokenizers; hashing ones, with a warning, for presets.

    Raises InputError for a bundle that needs a tokenizer and has none.
    """
    parts = family_of(bundle).encoders
    return PromptReader({p.component: tokenizer_of(bundle, p, config, say) for p in parts})


def tokenizer_of(bundle: Bundle, part: Part, config: PipelineConfig, say: Say) -> Tokenizer:
    """A text encoder's own tokenizer; a hashing one, with a warning, for presets.

    Raises InputError for a bundle that needs a tokenizer and has none.
    """
    length = prod(input_shapes(bundle, part.component)["input_ids"])
    if files := config.tokenizers.get(part.tokenizer):
        return own_tokenizer(part.reading, files, length)
    source = bundle.manifest.source
    if source.kind != "preset":
        raise InputError(
            f"{bundle.path} has no {part.tokenizer}, for its source {source.name} had none. Put "
            f"the folder {part.tokenizer}/ of the checkpoint into the pipeline's folder and "
            "compile again."
        )
    from edgefusion.models.architectures import PRESETS

    if source.name not in PRESETS:
        raise InputError(f"the bundle's preset {source.name} is unknown to this tool; update it.")
    if part == family_of(bundle).encoders[0]:
        say(
            f"warning: {source.name} has random weights and no tokenizer; words become token ids "
            "by hashing, and the image shows nothing"
        )
    network: Any = PRESETS[source.name].networks[part.component]
    return HashingTokenizer(network.vocabulary, length, part.reading.form)
