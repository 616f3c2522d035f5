"""TVM's host functions against ONNX Runtime on the same random values, before they are trusted.

TVM's frontend reads some ops otherwise than ONNX defines them, and says nothing. Here every
function of a library is run once in each on values of every kind (``draws``); what differs beyond
rounding is told, and ONNX Runtime computes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgefusion.compiler.host.draws import draws
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.host_ort import ort_function
from edgefusion.runtime.host_signature import HostFunction, HostSignature, HostTensor
from edgefusion.runtime.host_tvm import first_line, tvm_functions

Array = npt.NDArray[Any]

TOLERANCE = 1e-4
"""Of an output's largest value: what the order of summation and a library's functions may cost."""
HALF_TOLERANCE = 1e-2
"""The same for types of 16 bits."""
ENOUGH_S = 1.0
"""A function that takes longer is not drawn for again."""


def faults(
    signatures: Sequence[HostSignature],
    library: bytes,
    models: Mapping[str, onnx.ModelProto],
    begins: Callable[[str], None],
) -> dict[str, str]:
    """Why each function of ``library`` cannot be trusted, '' for those that can.

    ``begins`` hears the name of each before it runs: code that crashes takes the process along.
    Raises InputError for a library that cannot be loaded.
    """
    constants: dict[str, Array] = {}
    for s in signatures:
        constants |= next(draws(s.constants, models[s.name]))
    compiled = tvm_functions(signatures, library, constants)
    found = {}
    for s in signatures:
        begins(s.name)
        reference = ort_function(s, models[s.name].SerializeToString(), constants)
        found[s.name] = fault(s, compiled[s.name], reference, models[s.name])
    return found


def fault(
    signature: HostSignature,
    compiled: HostFunction,
    reference: HostFunction,
    model: onnx.ModelProto,
) -> str:
    """Why ``compiled`` is not what ``reference`` computes from random values; '' if it is."""
    begin = time.perf_counter()
    compared = 0
    for feed in draws(signature.inputs, model):
        values = [feed[tensor.name] for tensor in signature.inputs]
        try:
            wanted = reference(values)
        except InputError:  # values that the function does not take; compiled code must survive
            with suppress(InputError):
                compiled(values)
            continue
        try:
            found = compiled(values)
        except InputError as error:
            return f"code by TVM fails: {first_line(error.__cause__ or error)}"
        if reason := difference(signature.outputs, found, wanted):
            return f"TVM computes it differently: {reason}"
        compared += 1
        if time.perf_counter() - begin > ENOUGH_S:
            break
    return "" if compared else "ONNX Runtime computed nothing from random values to compare with"


def difference(
    outputs: Sequence[HostTensor], found: Sequence[Array], wanted: Sequence[Array]
) -> str:
    """Where ``found`` differs from ``wanted`` beyond rounding; '' if nowhere."""
    if len(found) != len(wanted):
        return f"{len(found)} results instead of {len(wanted)}"
    for tensor, ours, theirs in zip(outputs, found, wanted, strict=True):
        name = f"'{tensor.name}'"
        if ours.shape != theirs.shape:
            return f"{name} has shape {list(ours.shape)} instead of {list(theirs.shape)}"
        if ours.dtype != theirs.dtype:
            return f"{name} holds {ours.dtype} instead of {theirs.dtype}"
        if theirs.dtype.kind in "fc":
            if reason := _float_difference(ours, theirs):
                return f"{name} {reason}"
        elif wrong := int(np.count_nonzero(ours != theirs)):
            return f"{wrong} of {theirs.size} values of {name}"
    return ""


def _float_difference(ours: Array, theirs: Array) -> str:
    finite = np.isfinite(theirs)
    special = ~finite & ~np.isnan(theirs)
    if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
        return "is NaN in other places"
    if not np.array_equal(ours[special], theirs[special]) or not np.isfinite(ours[finite]).all():
        return "is infinite in other places"
    reference = theirs[finite].astype(np.float64)
    error = ours[finite].astype(np.float64) - reference
    largest = float(np.abs(reference).max(initial=0.0))
    tolerance = HALF_TOLERANCE if theirs.dtype.itemsize < 4 else TOLERANCE
    if float(np.abs(error).max(initial=0.0)) <= tolerance * largest:
        return ""
    if largest == 0:
        return "is not 0 where ONNX Runtime gives nothing else"
    with np.errstate(over="ignore"):
        noise, signal = float(np.square(error).sum()), float(np.square(reference).sum())
    return f"at {10 * np.log10(signal / noise):.0f} dB"
