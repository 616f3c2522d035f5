"""What a compilation is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgefusion.runtime.pipeline_roles import runs_each_step
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.recipe import Recipe
from edgefusion.toolchain.compiling.budgets import Budgets
from edgefusion.toolchain.compiling.scaling import CalibrationSettings
from edgefusion.toolchain.compiling.workspace import Shapes

if TYPE_CHECKING:
    from edgefusion.compiler.schedule.schedule import Schedule
    from edgefusion.models.source import Source
    from edgefusion.passes.pass_base import Pass
    from edgefusion.runtime.machine import Machine


@dataclass(frozen=True, slots=True)
class Settings:
    """What a compilation is asked for, the same for all its components."""

    machine: Machine
    schedules: tuple[Schedule, ...]
    recipe: Recipe
    budgets: Budgets
    shapes: Shapes
    dump_ir: Path | None
    progress: Say
    calibration: CalibrationSettings
    timesteps: tuple[float, ...] = ()
    """Those that the U-Net's tables have; without any, it computes what depends on them."""
    transposing: bool = True
    """Whether convolutions of doubled images become transposed ones."""

    def timesteps_of(self, component: str) -> tuple[float, ...]:
        """The timesteps to tabulate in ``component``."""
        return self.timesteps if runs_each_step(component) else ()

    def exports_for(self, source: Source, components: Sequence[str]) -> set[str]:
        """The components whose exports make inputs to calibrate ``components`` with."""
        calibrated = (
            name
            for name in components
            if self.calibration.is_wanted(name) and self.recipe.precision_of(name) != "fp16"
        )
        return {before for name in calibrated for before in source.family.before(name)}

    def passes(self, component: str) -> tuple[Pass, ...]:
        """What runs over ``component``'s graph."""
        from edgefusion.passes.pipeline import default_passes

        precision = self.recipe.precision_of(component)
        timesteps = self.timesteps_of(component)
        return default_passes(precision, self.recipe.rules, timesteps, transposing=self.transposing)
