"""How near values are to those of a reference, whatever their type: never a NaN, never a crash.

Numbers are compared by their signal to noise ratio (pictures by PSNR), whole numbers and booleans
by the share that is equal. What a reference cannot say is left out and named: where it is not
finite, its values are compared by kind alone; where it is all zero, the error is measured against
one, as there is no signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefusion.runtime.accuracy import decibels, noise_of, psnr_db

Array = npt.NDArray[Any]

MIN_EQUAL = 0.99
"""Gate for indices and booleans: what a decision between near equals may flip."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """``db`` is minus infinity where nothing agrees, infinity for no error. ``equal`` is the share
    of equal values where these are indices or booleans. ``comparable`` is whether there was
    anything to compare, ``remark`` what was particular."""

    db: float
    equal: float | None = None
    remark: str = ""
    comparable: bool = True

    def passes(self, least_db: float) -> bool:
        """Whether it keeps a gate: of decibels, or for indices and booleans ``MIN_EQUAL``."""
        return self.db >= least_db if self.equal is None else self.equal >= MIN_EQUAL

    def __str__(self) -> str:
        if not self.comparable:
            return self.remark
        text = f"{self.db:.1f} dB" if self.equal is None else f"{100 * self.equal:.2f} % equal"
        text = "no error" if self.equal is None and self.db == inf else text
        text = "nothing in common" if self.db == -inf and self.equal is None else text
        return f"{text} ({self.remark})" if self.remark else text


def agreement(reference: Array, found: Array, *, picture: bool = False) -> Agreement:
    """How near ``found`` is to ``reference``; ``picture`` for bytes of an image."""
    reference, found = np.asarray(reference), np.asarray(found)
    if reference.shape != found.shape and reference.size != found.size:
        shapes = f"shape {list(found.shape)} instead of {list(reference.shape)}"
        return Agreement(-inf, remark=shapes)
    found = found.reshape(reference.shape)
    if not reference.size:
        return Agreement(inf, remark="no values")
    if picture:
        return Agreement(psnr_db(reference, found))
    if reference.dtype.kind in "biu":
        return _whole(reference, found)
    return _real(reference, found)


def centred_agreement(reference: Array, found: Array) -> Agreement:
    """As ``agreement``, for two computations in FP32: an offset common to all values is no signal,
    and errors of FP32's own rounding are none."""
    plain = agreement(reference, found)
    if plain.equal is not None or not np.isfinite(plain.db) or not reference.size:
        return plain
    kept = np.isfinite(reference)
    exact = reference[kept].astype(np.float64)
    errors = np.asarray(found).reshape(reference.shape)[kept].astype(np.float64) - exact
    if np.abs(errors).max() <= 1e-5 * np.abs(exact).max():
        return Agreement(inf, remark=plain.remark)
    spread = float(((exact - exact.mean()) ** 2).sum())
    if spread <= 1e-12 * float((exact**2).sum()):  # a constant
        return plain
    return Agreement(decibels(spread, float((errors**2).sum())), remark=plain.remark)


def _whole(reference: Array, found: Array) -> Agreement:
    equal = float(np.mean(reference == found))
    signal = _real(reference, found).db
    if reference.dtype.kind != "b" and reference.dtype.itemsize == 1 and signal >= 20:
        return Agreement(signal)  # amounts, such as pictures: rounding may differ by one
    return Agreement(signal, equal)


def _real(reference: Array, found: Array) -> Agreement:
    exact, other = reference.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(exact)
    remark = ""
    if not finite.all():
        count = int(np.count_nonzero(~finite))
        remark = f"{count} of {exact.size} values of the reference are NaN or infinite"
        if count == exact.size:
            return Agreement(inf, remark=remark, comparable=False)
        exact, other = exact[finite], other[finite]
    if not np.isfinite(other).all():
        wrong = int(np.count_nonzero(~np.isfinite(other)))
        return Agreement(-inf, remark=f"{wrong} of {other.size} values are NaN or infinite")
    noise = noise_of(exact, other)
    if noise.signal == 0 and noise.noise > 0:
        zero = "the reference is all zero; measured against one"
        return Agreement(decibels(noise.count, noise.noise), remark=zero)
    return Agreement(noise.sqnr_db, remark=remark)
