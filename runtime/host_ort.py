"""A host function by ONNX Runtime: the reference, and what runs where no library does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host_signature import (
    HostFunction,
    HostSignature,
    arguments,
    constant_arguments,
)

Array = npt.NDArray[Any]

_ERRORS_ONLY = 3


def ort_function(
    signature: HostSignature, model: bytes, constants: Mapping[str, Array]
) -> HostFunction:
    """``model`` as a callable. Constants are passed at every call; ONNX Runtime does not copy them.

    Raises InputError for a model that cannot be loaded.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # Else ONNX Runtime rounds to 8 bits what meets weights behind DequantizeLinear.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"ONNX Runtime cannot load the host function {signature.name}: {error}"
        ) from error
    fixed = {
        t.name: v
        for t, v in zip(signature.constants, constant_arguments(signature, constants), strict=True)
    }
    names = [tensor.name for tensor in signature.outputs]

    def call(values: Sequence[Array]) -> Sequence[Array]:
        feeds = {
            t.name: v for t, v in zip(signature.inputs, arguments(signature, values), strict=True)
        }
        return [np.asarray(result) for result in session.run(names, feeds | fixed)]

    return call
