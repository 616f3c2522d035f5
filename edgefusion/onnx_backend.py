"""The simulated NPU as a backend of ONNX: ``onnx.backend.base.Backend`` over compile and execute.

import edgefusion.onnx_backend as backend

outputs = backend.run_model(model, [x])

Models need static shapes and hold their weights. What cannot be compiled raises the errors of
``edgefusion.runtime.errors``. FP16 arithmetic; ``host="tvm"`` compiles the host functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from edgefusion.runtime.errors import EdgeFusionError, UsageError
from edgefusion.runtime.host import BACKENDS
from edgefusion.toolchain.compiling.compile_source import DEFAULT_TARGET
from edgefusion.toolchain.compiling.in_process import (
    Run,
    compiled_in_process,
    ort_hosts,
    tvm_hosts,
)

if TYPE_CHECKING:
    from edgefusion.runtime.machine import Machine

__all__ = ["EdgeFusionBackend", "is_compatible", "prepare", "run_model", "supports_device"]


class PreparedModel(BackendRep):
    """A compiled model."""

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], run: Run) -> None:
        self._inputs, self._outputs, self._run = inputs, outputs, run

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in order, for inputs in order or by name; UsageError for too many or few."""
        if kwargs:
            raise UsageError(f"run takes no {', '.join(kwargs)}")
        if not isinstance(inputs, Mapping):
            arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            if len(arrays) != len(self._inputs):
                raise UsageError(f"expected {len(self._inputs)} inputs, found {len(arrays)}")
            inputs = dict(zip(self._inputs, arrays, strict=True))
        found = self._run(inputs)
        results: tuple[Any, ...] = namedtupledict("Outputs", list(self._outputs))(
            *(found[name] for name in self._outputs)
        )
        return results


class EdgeFusionBackend(Backend):
    """See the module."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether ``model`` compiles."""
        try:
            cls.prepare(model, device, **kwargs)
        except EdgeFusionError:
            return False
        return True

    @classmethod
    def prepare(
        cls, model: onnx.ModelProto, device: str = "CPU", *, host: str = "ort", **kwargs: Any
    ) -> PreparedModel:
        """Compile ``model``; ``host`` is what runs host functions, ``ort`` or ``tvm``."""
        if kwargs or not cls.supports_device(device):
            raise UsageError(f"prepare takes no {', '.join(kwargs) or f'device {device}'}")
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [info.name for info in model.graph.input if info.name not in weights]
        outputs = [info.name for info in model.graph.output]
        if host not in BACKENDS:
            raise UsageError(f"host is {host!r}; expected one of {', '.join(BACKENDS)}")
        compiled = compiled_in_process(model, _machine())
        hosts = ort_hosts(compiled) if host == "ort" else tvm_hosts([compiled])[0]
        return PreparedModel(inputs, outputs, compiled.run_with(hosts))

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The NPU is simulated on the CPU."""
        return device == "CPU" or device.startswith("CPU:")


@cache
def _machine() -> Machine:
    from edgefusion.runtime.target import load_target

    return load_target(DEFAULT_TARGET).machine


is_compatible = EdgeFusionBackend.is_compatible
prepare = EdgeFusionBackend.prepare
run_model = EdgeFusionBackend.run_model
supports_device = EdgeFusionBackend.supports_device
