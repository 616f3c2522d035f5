"""A source to bundles: each component through all stages, then a bundle for each schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.bundle import json_bytes, write_bundle
from edgefusion.compiler.bundle.check import LATENCY
from edgefusion.compiler.bundle.deployment import Deployment
from edgefusion.compiler.bundle.manifest import LoraInfo, Manifest, MemberInfo, SourceInfo
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.arguments import brief, names_of, path_of, whole_number
from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.cost import COST_MODEL_VERSION
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import replacing
from edgefusion.runtime.latency import PipelineLatency
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.pipeline_roles import denoiser_of
from edgefusion.runtime.progress import Say, silent
from edgefusion.runtime.target import Target, target_given, target_path
from edgefusion.toolchain.accuracy.recipe import Recipe, load_recipe
from edgefusion.toolchain.compiling.budgets import Budgets
from edgefusion.toolchain.compiling.compilation import Compilation, CompiledComponent
from edgefusion.toolchain.compiling.scaling import calibration_settings
from edgefusion.toolchain.compiling.settings import Settings
from edgefusion.toolchain.compiling.stopwatch import StageTime, Stopwatch
from edgefusion.toolchain.compiling.workspace import Shapes, open_workspace

if TYPE_CHECKING:
    from edgefusion.models.pictures import Files
    from edgefusion.models.source import Source
    from edgefusion.passes.pass_manager import PassRecord
    from edgefusion.toolchain.accuracy.import_check import ImportCheck

DEFAULT_TARGET = "exynos2400"
DEFAULT_SCHEDULE = "pipelined"
DEFAULT_CALIBRATION_PROMPTS = 2


@dataclass(frozen=True, slots=True)
class CompileResult:
    """Bundles by schedule, what the simulator says of each, and where the time went."""

    machine: Machine
    bundles: Mapping[str, Path]
    bundle_bytes: Mapping[str, int]
    latencies: Mapping[str, PipelineLatency]
    manifests: Mapping[str, Manifest]
    passes: Mapping[str, tuple[PassRecord, ...]]
    checks: tuple[ImportCheck, ...]
    """How near each component is to its source."""
    stages: tuple[StageTime, ...]

    def __repr__(self) -> str:
        made = ", ".join(
            f"{path.name} ({self.latencies[name].total_ms:,.3f} ms)"
            for name, path in self.bundles.items()
        )
        return f"<CompileResult for {self.machine.name}: {made}>"


def compile_source(
    source: str | Path,
    *,
    output: Path | str | Mapping[str, Path | str],
    target: str | Path | Target | Machine = DEFAULT_TARGET,
    schedules: str | Sequence[str] = (DEFAULT_SCHEDULE,),
    components: str | Sequence[str] | None = None,
    steps: int | None = None,
    scheduler: str | None = None,
    height: int | None = None,
    width: int | None = None,
    guidance: float | None = None,
    image_to_image: bool = False,
    strength: float | None = None,
    control_scale: float | None = None,
    random_weights: int | None = None,
    variant: str | None = None,
    loras: str | Sequence[str] = (),
    recipe: Path | str | None = None,
    shapes: Shapes | None = None,
    budgets: Budgets | None = None,
    work_dir: Path | str | None = None,
    dump_ir: Path | str | None = None,
    calibration_prompts: int | str | Sequence[str] = DEFAULT_CALIBRATION_PROMPTS,
    pictures: Sequence[Files] = (),
    calibration: Path | str | None = None,
    calibration_method: str = "minmax",
    timestep_tables: bool = True,
    transposing: bool = True,
    progress: Say | None = None,
) -> CompileResult:
    """Compile ``source`` (preset, pipeline folder, hub id or .onnx file) to a bundle a schedule.

    ``output`` is the bundle's path, or one for each schedule by name. Exports, passes and weights
    are made once for all schedules. Bundles appear whole, all of them or none. ``target`` is the
    name of one, its file, or a machine; where lists of names are expected, one name does.

    ``variant`` names the weight files of a folder that are meant (``fp16``); None takes those of
    full precision, and fp16 where there are no others. ``loras`` are LoRA files, FILE or FILE:SCALE
    each, that are fused into the weights.

    Components with INT16 activations are calibrated on the trajectories of ``calibration_prompts``:
    texts, or so many of the folder's prompts.txt, else of a built-in list (0: not at all; the
    bundle then has latency but no values). A pipeline that takes pictures is calibrated with
    ``pictures``, a mapping of names to files for one prompt after the other and over again; with
    drawn ones where there are none. Or components take the file ``calibration``.
    ``calibration_method`` is minmax, percentile or mse.

    ``steps`` are denoising steps of an image; when left out, those that a preset was made for, that
    a pipeline of diffusers takes where it is not told, or 2 with a scheduler of students.
    ``scheduler`` names what denoises, as diffusers names it with or without "Scheduler"; the
    pipeline's own when left out or "own", LCM's where it brings none.
    ``height`` and ``width`` are those of pictures, in pixels; the pipeline's own when left out.
    ``guidance`` is how far a prediction goes towards the prompt (1: as it is): the U-Net runs with
    the prompt and without, or takes it as an input if it was distilled so.
    With ``image_to_image`` the bundle starts from a picture, which the VAE's encoder reads; a
    pipeline whose class does that, does it anyway. ``strength`` is how much of the noise schedule
    is then run (above 0, up to 1; the pipeline's usual one when left out). ``control_scale`` is how
    much the picture counts that a ControlNet follows (1 when left out).

    With ``timestep_tables`` the U-Net looks up what depends on the timestep alone, and runs at the
    timesteps of 1, 2, 4 and ``steps`` steps only; without, it computes that, for any timestep.
    With ``transposing``, convolutions of doubled images become transposed convolutions where the
    machine is faster with these; the paper's method has none.

    Raises the errors of ``runtime.errors``: UsageError, InputError, UnsupportedOpError,
    DoesNotFitError.
    """
    # 1. Check the request, before hours of work rest on it
    schedules = names_of(schedules, "schedules")
    for name in schedules:
        schedule_named(name)
    components = None if components is None else names_of(components, "components")
    loras = names_of(loras, "loras", "text")
    if components == ():
        raise UsageError("components is empty; leave it out for all, or name some.")
    recipe, calibration = _path(recipe, "recipe"), _path(calibration, "calibration")
    work_dir, dump_ir = _path(work_dir, "work_dir"), _path(dump_ir, "dump_ir")
    if not isinstance(calibration_prompts, int):
        calibration_prompts = names_of(calibration_prompts, "calibration_prompts", "text")
    steps = None if steps is None else whole_number(steps, "--steps", least=1)
    chosen_scheduler = _scheduler(scheduler)
    height = None if height is None else whole_number(height, "--height", least=1)
    width = None if width is None else whole_number(width, "--width", least=1)
    if random_weights is not None:
        random_weights = whole_number(random_weights, "--random-weights", least=0)
    if not isinstance(budgets, Budgets | None):
        raise UsageError(f"budgets is {brief(budgets)}; expected Budgets.")
    if not isinstance(shapes, Mapping | None):
        raise UsageError(f"shapes is {brief(shapes)}; expected shapes of inputs by name.")
    outputs = _outputs(output, schedules)
    machine = target_given(target).machine
    from edgefusion.models.guidance import chosen_guidance
    from edgefusion.models.image_size import chosen_latent
    from edgefusion.models.pipeline_check import checked_source
    from edgefusion.models.pipeline_files import pipeline_files
    from edgefusion.models.source import resolve_source
    from edgefusion.models.strength import (
        chosen_control_scale,
        chosen_strength,
        starting_from_picture,
    )
    from edgefusion.models.trajectories import Denoising, evaluations, tabulated_timesteps

    resolved = resolve_source(
        str(path_of(source, "source")),
        random_weights_seed=random_weights,
        variant=variant,
        loras=loras,
    )
    if image_to_image:
        resolved = starting_from_picture(resolved)
    if chosen_scheduler and chosen_scheduler not in resolved.family.schedulers:
        raise UsageError(
            f"--scheduler {scheduler} was given with {resolved.name}, which is "
            f"{resolved.family.title}; expected {', '.join(resolved.family.schedulers)}. Leave it "
            "out."
        )
    deployment = Deployment(
        chosen_scheduler,
        chosen_latent(resolved, height, width),
        chosen_guidance(resolved, guidance),
        chosen_strength(resolved, strength),
        chosen_control_scale(resolved, control_scale),
    )
    resolved = replace(resolved, deployment=deployment)
    say = progress or silent
    resolved = checked_source(resolved, components, say)
    chosen = components_of(resolved, components)
    denoiser = denoiser_of(chosen)
    if denoiser and steps is None:
        say(f"{resolved.name}: denoising steps: {resolved.usual_steps}, as usual; --steps chooses")
    steps = steps or resolved.usual_steps
    if denoiser:
        Denoising.of(resolved, steps)  # the scheduler can do so many steps, all of them
        evaluations(resolved, denoiser, steps)  # and some at its strength
        if told := _distilled_and_guided(resolved):
            say(told)
    if chosen_scheduler and not denoiser:
        raise UsageError(
            f"--scheduler {scheduler} was given, and nothing that denoises is compiled of "
            f"{resolved.name}; expected a pipeline's {resolved.family.denoiser.component}. Leave "
            "one of the two out."
        )
    settings = Settings(
        machine=machine,
        schedules=tuple(schedule_named(name) for name in schedules),
        recipe=load_recipe(recipe) if recipe else Recipe(),
        budgets=budgets or Budgets(),
        shapes=shapes or {},
        dump_ir=dump_ir,
        progress=say,
        calibration=calibration_settings(
            calibration_prompts, calibration, calibration_method, steps, chosen, resolved, pictures
        ),
        transposing=transposing,
    )
    if timestep_tables and denoiser:
        settings = replace(settings, timesteps=tabulated_timesteps(resolved, steps))
    for schedule in settings.schedules:
        if idle := schedule.idle_engines(settings.machine):
            settings.progress(
                f"schedule {schedule.name} runs one engine at a time: {idle} of "
                f"{settings.machine.name} stay idle; pipelined uses all"
            )
    stopwatch = Stopwatch()
    files = (lora.path for lora in resolved.loras)
    read = (resolved.path, resolved.file, *files, recipe, calibration, _target_file(target))
    claim_outputs(
        [Output(path, Kind.BUNDLE) for path in outputs.values()],
        [path for path in read if path is not None],
        [path for path in (work_dir, dump_ir) if path is not None],
    )
    places = tuple(outputs.values())
    with (
        replacing(places, Kind.BUNDLE) as partial,
        open_workspace(work_dir) as workspace,
        ExitStack() as processes,
    ):
        # 2. Each component to files
        compilation = Compilation(resolved, settings, workspace, stopwatch, processes)
        compiled = compilation.of_all(chosen, steps)
        # 3. Each schedule's simulation against the budget, then its bundle
        latencies = {name: _pipeline(compiled, name) for name in outputs}
        for latency in latencies.values():
            settings.budgets.check_latency(latency)
        settings.progress("digesting the source")
        origin = SourceInfo(
            resolved.kind,
            resolved.name,
            resolved.digest,
            resolved.seed,
            resolved.family.name,
            resolved.variant,
            tuple(LoraInfo(each.path.name, each.digest, each.scale) for each in resolved.loras),
        )
        beside = pipeline_files(resolved)
        manifests, bundle_bytes = {}, {}
        for name, file in zip(outputs, partial, strict=True):
            settings.progress(f"writing {outputs[name]}")
            with stopwatch.stage("", f"bundle {name}"):
                manifest = _manifest(
                    origin, settings.machine, name, steps, resolved.deployed, compiled
                )
                manifests[name] = _write(file, manifest, compiled, latencies[name], beside)
                bundle_bytes[name] = file.stat().st_size
    passes = {component.name: component.passes for component in compiled}
    checks = tuple(component.check for component in compiled)
    return CompileResult(
        settings.machine,
        outputs,
        bundle_bytes,
        latencies,
        manifests,
        passes,
        checks,
        tuple(stopwatch.times),
    )


def _path(given: Path | str | None, what: str) -> Path | None:
    return None if given is None else path_of(given, what)


def _scheduler(given: str | None) -> str | None:
    """The class of diffusers that is meant; None for the pipeline's own."""
    from edgefusion.models.noise_scheduler import scheduler_named

    if given is not None and not isinstance(given, str):
        raise UsageError(f"scheduler is {brief(given)}; expected a name.")
    return None if given in (None, "own") else scheduler_named(given)


def _distilled_and_guided(source: Source) -> str | None:
    """What to tell of guidance in two passes where the scheduler is that of a distilled model."""
    name = source.scheduler.name
    if source.deployment.passes == 1 or not source.scheduler.is_of_students:
        return None
    return (
        f"{source.name}: guided in two passes, twice the denoiser's time; what was distilled for "
        f"{name} usually has guidance in it already, and looks overdone so"
    )


def _target_file(target: str | Path | Target | Machine) -> Path | None:
    """The file that a target is read from; None for one that lies in memory."""
    return None if isinstance(target, Target | Machine) else target_path(str(target))


def _outputs(
    output: Path | str | Mapping[str, Path | str], schedules: Sequence[str]
) -> dict[str, Path]:
    if not schedules or len(set(schedules)) != len(schedules):
        raise UsageError(f"expected one or more different schedules, got {list(schedules)}")
    if isinstance(output, Mapping):
        if set(output) != set(schedules):
            raise UsageError(
                f"expected an output for each of {', '.join(schedules)}, got {', '.join(output)}"
            )
        outputs = {name: path_of(output[name], f"output {name}") for name in schedules}
    elif len(schedules) == 1:
        outputs = {schedules[0]: path_of(output, "output")}
    else:
        raise UsageError(f"{len(schedules)} schedules need an output each; give them by name")
    return outputs


def components_of(source: Source, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The wanted components in pipeline order, all for None; UsageError for an unknown one."""
    if wanted is None:
        return source.components
    unknown = [name for name in wanted if name not in source.components]
    if unknown or not wanted:
        raise UsageError(
            f"{source.name} has no component {', '.join(unknown) or '(none named)'}; it holds "
            f"{', '.join(source.components)}. Choose among these with --components."
        )
    return tuple(name for name in source.components if name in wanted)


def _pipeline(compiled: Sequence[CompiledComponent], schedule: str) -> PipelineLatency:
    programs = [component.programs[schedule] for component in compiled]
    return PipelineLatency(tuple(each for p in programs for each in p.latencies))


def _manifest(
    source: SourceInfo,
    machine: Machine,
    schedule: str,
    steps: int,
    deployment: Deployment,
    compiled: Sequence[CompiledComponent],
) -> Manifest:
    return Manifest(
        tool_version=version("edgefusion"),
        source=source,
        target=machine,
        cost_model_version=COST_MODEL_VERSION,
        schedule=schedule,
        steps=steps,
        components=tuple(component.programs[schedule].info for component in compiled),
        members={},
        deployment=deployment,
    )


def _write(
    file: Path,
    manifest: Manifest,
    compiled: Sequence[CompiledComponent],
    latency: PipelineLatency,
    beside: Mapping[str, Path | bytes],
) -> Manifest:
    """Write the bundle of the manifest's schedule; the manifest with its members."""
    members: dict[str, Path | bytes] = {LATENCY: json_bytes(latency.to_json())}
    infos: dict[str, MemberInfo] = {}
    for component in compiled:
        program = component.programs[manifest.schedule]
        name = f"{component.name}/program.npz"
        members |= {**component.files, name: program.file}
        infos |= {**component.members, name: program.member}
    members |= beside
    return write_bundle(file, manifest, members, infos)
