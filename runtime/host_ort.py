"""A host function by ONNX Runtime: the reference, and what runs where no library does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.host_signature import (
    HostFunction,
    HostSignature,
    arguments,
    constant_arguments,
)
from edgefusion.runtime.ort_session import open_session, telling

Array = npt.NDArray[Any]


def ort_function(
    signature: HostSignature, model: bytes, constants: Mapping[str, Array]
) -> HostFunction:
    """``model`` as a callable. Constants are passed at every call; ONNX Runtime does not copy them.

    Raises InputError for a model that cannot be loaded; the callable, for values that ONNX Runtime
    refuses, such as a divisor of 0.
    """
    session = open_session(model, f"the host function {signature.name}")
    fixed = {
        t.name: v
        for t, v in zip(signature.constants, constant_arguments(signature, constants), strict=True)
    }
    names = [tensor.name for tensor in signature.outputs]

    def call(values: Sequence[Array]) -> Sequence[Array]:
        feeds = {
            t.name: v for t, v in zip(signature.inputs, arguments(signature, values), strict=True)
        }
        with telling(f"compute the host function {signature.name} from these values"):
            results = session.run(names, feeds | fixed)
        return [np.asarray(result) for result in results]

    return call
