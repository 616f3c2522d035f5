"""Fuzzing, in a process of its own:

    python -m tests.fuzz SUBJECT FIRST COUNT

Writes a line of JSON for each finding: seed, error, and where. The seed at work is in the file that
EDGEFUSION_FUZZ_SEED names, so that whoever started this knows which input killed it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from edgefusion.runtime.errors import EdgeFusionError
from tests.fuzz.subjects import SUBJECTS

SECONDS = 120
"""A hang, even where kernels are compiled for the first time."""

MEMORY_BYTES = 16 << 30
"""Of address space; the libraries alone map several gigabytes."""


def _late(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeoutError(f"took more than {SECONDS} seconds")


def main(name: str, first: int, count: int) -> None:
    """Try ``count`` seeds from ``first``."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _late)
    mark = Path(os.environ.get("EDGEFUSION_FUZZ_SEED", os.devnull))
    refused = 0
    for seed in range(first, first + count):
        mark.write_text(str(seed))
        signal.alarm(SECONDS)
        try:
            with TemporaryDirectory(prefix="fuzz-") as folder:
                SUBJECTS[name](seed, Path(folder))
        except (EdgeFusionError, MemoryError):  # the command line refuses what memory cannot hold
            refused += 1
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is a finding
            last = traceback.extract_tb(error.__traceback__)
            own = [f for f in last if "edgefusion" in f.filename or "/tests/" in f.filename]
            places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in (own or last)[-3:]]
            text = f"{type(error).__name__}: {error}"[:400]
            sys.stdout.write(json.dumps({"seed": seed, "error": text, "at": places}) + "\n")
            sys.stdout.flush()
        finally:
            signal.alarm(0)
    sys.stdout.write(json.dumps({"tried": count, "refused": refused}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
