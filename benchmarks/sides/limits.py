"""Print limits of this machine as JSON: matrix rate (GFLOP/s), memory bandwidth (GB/s), and clips decoded in a second.

python limits.py clip.mp3

One thread decodes; its clips are multiplied by the number of threads.
"""

import json
import sys
import time
from collections.abc import Callable

import soundfile
import torch

WIDTH = 2048  # of square matrices: 17 GFLOP for a product
VALUES = 2**26  # of 4 bytes in each of three arrays, 768 MB together: more than the caches of processors hold
SECONDS = 1.0  # of passes at least


def fastest(function: Callable[[], object]) -> float:
    """Return the seconds of the fastest pass, after one that warms up."""
    passes, ends = [], time.perf_counter() + SECONDS
    function()
    while not passes or time.perf_counter() < ends:
        started = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # the GPU computes asynchronously
        passes.append(time.perf_counter() - started)
    return min(passes)


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.randn(2, WIDTH, WIDTH, device=device).to(dtype)
        rates[f"{name}_gflops"] = 2 * WIDTH**3 / 1e9 / fastest(lambda left=left, right=right: left @ right)
    first, second, third = torch.ones(3, VALUES, device=device)
    seconds = fastest(lambda: torch.add(first, second, out=third))
    bandwidth = 3 * 4 * VALUES / 1e9 / seconds
    decoded = torch.get_num_threads() / fastest(lambda: soundfile.read(sys.argv[1], dtype="float32"))
    print(json.dumps({**rates, "memory_gb_per_second": bandwidth, "decoded_clips_per_second": decoded}))


if __name__ == "__main__":
    main()
