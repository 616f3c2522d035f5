"""What an image would take with other DRAM bandwidths: `python what_if.py tiny.npub`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from edgefusion import Bundle, EdgeFusionError, Profile, open_bundle, simulate


def profiles(bundle: Bundle, gb_per_s: Sequence[float]) -> dict[float, Profile]:
    """The bundle, timed at each bandwidth."""
    return {
        each: simulate(bundle, set={"dma_bandwidth_bytes_per_s": each * 1e9}) for each in gb_per_s
    }


def main(path: Path) -> int:
    """Print a line for each bandwidth, with the op that takes most of an image; the exit code."""
    try:
        found = profiles(open_bundle(path), (7, 14, 30, 60))
    except EdgeFusionError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for bandwidth, profile in found.items():
        op = profile.costliest()[0]
        share = f"{100 * op.share:.1f} % for {op.path}"
        print(f"{bandwidth:>3} GB/s  {profile.latency.total_ms:>10,.3f} ms, {share}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
