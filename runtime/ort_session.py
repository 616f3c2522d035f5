"""Sessions of ONNX Runtime: one set of options, silent, and every failure an InputError.

ONNX Runtime raises classes of its own that share no base, and writes what it raises to standard
error as well unless it is told not to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as states

from edgefusion.runtime.errors import InputError

ORT_ERRORS: tuple[type[Exception], ...] = (
    *(
        each
        for each in vars(states).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ),
    RuntimeError,
    ValueError,
    TypeError,
)
"""What creating and running a session can raise; the last three come from its Python side."""

_FATAL = 4
ort.set_default_logger_severity(_FATAL)  # what is logged outside of any session
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


def session_options() -> Any:
    """Silent, and in FP32: without the option about QDQ, ONNX Runtime takes 8-bit weights behind
    DequantizeLinear as leave to round activations to eight bits."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(model: bytes | str, what: str, options: Any = None) -> ort.InferenceSession:
    """A session of ``model`` (its bytes, or the path of a file), which errors call ``what``. Raises
    InputError where it cannot be."""
    with telling(f"load {what}"):
        return ort.InferenceSession(
            model, session_options() if options is None else options, ["CPUExecutionProvider"]
        )


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Around calls of ONNX Runtime alone: what it raises as an InputError that it cannot do
    ``what``."""
    try:
        yield
    except ORT_ERRORS as error:
        raise InputError(f"ONNX Runtime cannot {what}: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """What ONNX Runtime says in ``error``, on one line, without its codes and its full stop."""
    return " ".join(_CODE.sub("", str(error)).split()).rstrip(".")
