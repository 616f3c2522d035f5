"""The FP32 networks that a bundle is verified against, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgefusion.models.export import export_component
from edgefusion.models.source import Source
from edgefusion.models.text_to_image import Network
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.accuracy.float_reference import ReferenceGraph, reference_graph
from edgefusion.toolchain.accuracy.source_network import source_network
from edgefusion.toolchain.running.execution import check_timestep
from edgefusion.toolchain.running.float_network import float_network
from edgefusion.toolchain.running.ports import input_shapes

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle

Array = npt.NDArray[Any]
Export = Callable[[Source, str], Path]
"""Makes or finds the FP32 export of a component."""


@dataclass(frozen=True, slots=True)
class References:
    """Those of one verification; ``source`` is None where it is not at hand."""

    bundle: Bundle
    source: Source | None
    folder: Path
    say: Say
    export: Export | None = None

    def exported(self, component: str) -> Path | None:
        """The source's export, made when it is first asked for."""
        if self.source is None:
            return None
        if self.export is not None:
            return self.export(self.source, component)
        folder = self.folder / component / "export"
        made = folder / f"{component}.onnx"
        if made.exists():
            return made
        shapes = input_shapes(self.bundle, component) if self.source.kind == "onnx" else None
        return export_component(self.source, component, folder, shapes=shapes, progress=self.say)

    def model(self, component: str) -> Network | None:
        """The source's own graph; None without a source, or where ONNX Runtime cannot run it."""
        exported = self.exported(component)
        if self.source is None or exported is None:
            return None
        try:
            return source_network(self.source, exported, self.say)
        except InputError as error:
            self.say(f"warning: {error}")
            return None

    def rounded(self, component: str) -> Network:
        """The bundle's own graph. Raises InputError where ONNX Runtime cannot run it."""
        graph, folder = self.bundle.graph_model(component), self.bundle.path.parent
        network = float_network(graph, folder, f"the bundle's graph of {component}")
        timesteps = self.bundle.manifest.component(component).timesteps

        def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            check_timestep(timesteps, feeds)
            return network(feeds)

        return run

    def layers(self, component: str) -> ReferenceGraph:
        """The graph whose values have the bundle's names."""
        place, exported = self.folder / component / "layers", self.exported(component)
        return reference_graph(self.bundle, component, exported, place, self.say)
