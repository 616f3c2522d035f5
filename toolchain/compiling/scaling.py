"""The calibration stage of a compilation: a component's scales, and the record of how they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.scales import NONE, PLACEHOLDER, ScalesInfo
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.files import disk_errors
from edgefusion.runtime.isa import DType
from edgefusion.runtime.progress import Say

if TYPE_CHECKING:
    from edgefusion.compiler.network.network import Network
    from edgefusion.models.pictures import Array, Files
    from edgefusion.models.source import Source
    from edgefusion.toolchain.accuracy.calibration_file import Calibration, Method
    from edgefusion.toolchain.compiling.workspace import Workspace

CALIBRATION = "calibration.json"
_REMARKS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """``prompts`` to calibrate with (none: leave placeholders) at the timesteps of ``steps``, or a
    finished calibration ``given`` for the component that it names."""

    prompts: tuple[str, ...] = ()
    steps: int = 1
    method: Method = "minmax"
    given: Calibration | None = None
    pictures: tuple[Mapping[str, Array], ...] = ()
    """The prompts' in turn, as networks are given them; drawn where there are none."""

    def is_wanted(self, component: str) -> bool:
        """Whether ``component`` is to be calibrated, or its calibration is given."""
        given = self.given is not None and self.given.identity.component == component
        return given or bool(self.prompts)


@dataclass(frozen=True, slots=True)
class Scales:
    """Scales by tensor (none where there is nothing to fill in), their record, and the
    measurements as members of the bundle."""

    values: Mapping[str, float] = field(default_factory=dict)
    info: ScalesInfo = field(default_factory=ScalesInfo)
    files: Mapping[str, Path] = field(default_factory=dict)


def calibration_settings(
    prompts: int | Sequence[str],
    file: Path | None,
    method: str,
    steps: int,
    components: tuple[str, ...],
    source: Source,
    pictures: Sequence[Files] = (),
) -> CalibrationSettings:
    """Check what the user asks for, and read its pictures. Raises UsageError and InputError."""
    from edgefusion.models.image_size import pixels
    from edgefusion.models.pictures import read_sets
    from edgefusion.models.trajectories import chosen_prompts
    from edgefusion.toolchain.accuracy.calibration_file import METHODS, load_calibration

    known = next((each for each in METHODS if each == method), None)
    if known is None:
        raise UsageError(
            f"--calibration-method is {method!r}; expected one of {', '.join(METHODS)}."
        )
    given = load_calibration(file) if file is not None else None
    if given is not None and given.identity.component not in components:
        raise UsageError(
            f"{file} calibrates the component {given.identity.component}, which is not compiled; "
            f"expected one of {', '.join(components)}."
        )
    if given is not None:
        given.check_source(source.digest)
    texts = chosen_prompts(prompts, source)
    use = source.family.pictures
    size = pixels(source) if use.given and pictures else (0, 0)
    sets = read_sets(use, pictures, size, source.name, len(texts))
    return CalibrationSettings(texts, steps, known, given, sets)


def needs_scales(network: Network) -> bool:
    """Whether any tensor is an INT16 activation."""
    return any(tensor.dtype == DType.INT16 for tensor in network.tensors.values())


def uncalibrated(network: Network) -> Scales:
    """No scales, because none are needed or because placeholders stay."""
    return Scales(info=ScalesInfo(PLACEHOLDER if needs_scales(network) else NONE))


def component_scales(
    source: Source,
    component: str,
    graph_path: Path,
    network: Network,
    settings: CalibrationSettings,
    workspace: Workspace,
    progress: Say,
) -> Scales:
    """The scales of ``network``, measured on the graph at ``graph_path`` unless they are given.

    Raises InputError for values that are not finite and for a calibration that does not fit.
    """
    from edgefusion.compiler.network.scale_remarks import scale_remarks
    from edgefusion.compiler.network.scales import assign_scales

    given = settings.given
    if given is not None and given.identity.component == component:
        given.check(network, component, source.digest)
        calibration = given
    else:
        calibration = _measured(
            source, component, graph_path, network, settings, workspace, progress
        )
    ranges = calibration.ranges(settings.method)
    remarks = scale_remarks(network, calibration.extremes(), calibration.typical())
    for remark in remarks[:_REMARKS_SHOWN]:
        progress(f"{component}: {remark}")
    if len(remarks) > _REMARKS_SHOWN:
        progress(f"{component}: {len(remarks) - _REMARKS_SHOWN} more such remarks in the manifest")
    made = calibration.identity
    file = graph_path.with_name(CALIBRATION)
    with disk_errors(file):
        calibration.save(file)
    return Scales(
        assign_scales(network, ranges),
        ScalesInfo(
            settings.method,
            made.inputs,
            calibration.evaluations,
            made.prompts,
            made.timesteps,
            tuple(map(str, remarks)),
        ),
        {f"{component}/{CALIBRATION}": file},
    )


def _measured(
    source: Source,
    component: str,
    graph_path: Path,
    network: Network,
    settings: CalibrationSettings,
    workspace: Workspace,
    progress: Say,
) -> Calibration:
    from edgefusion.models.pictures import sets_digest
    from edgefusion.toolchain.accuracy.calibration import calibrate, graph_digest
    from edgefusion.toolchain.accuracy.calibration_file import Identity
    from edgefusion.toolchain.accuracy.calibration_inputs import Inputs

    inputs = Inputs(source, settings.prompts, settings.steps, pictures=settings.pictures)
    progress(f"{component}: digesting the source")
    identity = Identity(
        source.name,
        source.digest,
        component,
        graph_digest(graph_path),
        inputs.kind(component),
        inputs.prompts,
        inputs.timesteps(component),
        inputs.seed,
        source.deployed,
        sets_digest(inputs.pictures),
    )
    folder = workspace.exports.parent / "calibrations" if workspace.keeps_exports else None
    with disk_errors(folder or graph_path):

        def exported(name: str) -> Path:
            return workspace.export(source, name, {}, progress)

        workload = inputs.workload(component, graph_path, exported)
        return calibrate(graph_path, network, identity, workload, folder=folder, progress=progress)
