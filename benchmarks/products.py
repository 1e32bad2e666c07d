"""Matrix products of the sizes of small networks, by the library that torch takes and by oneDNN.

    python benchmarks/products.py                     # prints a table
    python benchmarks/products.py --json products.json

One thread, float32. ``forward`` is ``x @ W.T`` of a layer, ``inputs`` and ``weight`` are the products of its backward pass;
the figures are GFLOP/s, the best of several rounds in turn. Where oneDNN is faster, :mod:`rlspo.common.matrix_products`
exchanges the products of compiled updates from ``WORTH_IT`` multiplications on.

``subnormal`` says how many times as long torch's product takes where the gradients of half of the units are below 1e-38: as
they are, and taken for 0, as updates do (:func:`rlspo.common.processor.tiny_is_zero`).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from rlspo.common import processor

Tensor = torch.Tensor
#: Rows, inputs and outputs of a layer.
SIZES = [(64, 11, 64), (64, 64, 64), (256, 14, 256), (256, 64, 64), (256, 256, 256), (256, 376, 256), (256, 3136, 512)]


def by_torch(left: Tensor, right: Tensor) -> Tensor:
    return left @ right


def onednn(left: Tensor, right: Tensor) -> Tensor:
    return processor.by_onednn(left, right.t())


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < 0.05:
        function(*arguments)
        calls += 1
    return (time.perf_counter() - start) / calls


def measure(rows: int, inputs: int, outputs: int, rounds: int) -> dict[str, dict[str, float]]:
    x, weight, y = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(rows, outputs)
    products = {"forward": (x, weight.t()), "inputs": (y, weight), "weight": (y.t(), x)}
    flops = 2e-9 * rows * inputs * outputs
    best: dict[str, dict[str, float]] = {name: {"torch": 0.0, "onednn": 0.0} for name in products}
    for _ in range(rounds):
        for name, pair in products.items():
            for library, function in (("torch", by_torch), ("onednn", onednn)):
                best[name][library] = max(best[name][library], flops / seconds(function, *pair))
    return best


def subnormal(rows: int, inputs: int, outputs: int, rounds: int) -> dict[str, float]:
    """The gradient of a weight, relative to the time that it takes without such numbers."""
    x, plain = torch.randn(rows, inputs), torch.randn(rows, outputs)
    tiny = plain * torch.tensor([1.0, 1e-40]).repeat(outputs // 2)
    as_they_are: list[float] = []
    as_zero: list[float] = []
    for _ in range(rounds):
        usual = seconds(by_torch, plain.t(), x)
        as_they_are.append(seconds(by_torch, tiny.t(), x) / usual)
        with processor.tiny_is_zero():
            as_zero.append(seconds(by_torch, tiny.t(), x) / usual)
    return {"as they are": round(statistics.median(as_they_are), 2), "as zero": round(statistics.median(as_zero), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("rows x inputs x outputs", "product", "torch", "oneDNN", "ratio", title="GFLOP/s")
    found = {}
    with torch.no_grad():
        for size in SIZES:
            name = "x".join(map(str, size))
            found[name] = measure(*size, arguments.rounds)
            for product, figures in found[name].items():
                one, other = figures["torch"], figures["onednn"]
                table.add_row(name, product, f"{one:.0f}", f"{other:.0f}", f"{other / one:.2f}")
    slower = {"x".join(map(str, size)): subnormal(*size, arguments.rounds) for size in ((128, 256, 1024), (256, 256, 256))}
    Console().print(table)
    for name, figures in slower.items():
        print(f"{name} with subnormal numbers: {figures['as they are']} times as long, as zero {figures['as zero']}")
    if arguments.json:
        about = {
            "processor": platform.processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "exchanged_here": processor.mkl_is_slow(),
            "torch": torch.__version__,
        }
        arguments.json.write_text(json.dumps({"about": about, "gflops": found, "subnormal": slower}, indent=2) + "\n")


if __name__ == "__main__":
    main()
