"""The price of a private step: from one convolutional critic to times and memory beside a plain step's.

Every method to a sum of clipped gradients runs in turn with the plain step, in one process and round after round;
a ratio is the median over rounds, so that a busy machine disturbs both alike. Memory is the peak above what the
process held before its first step, each method in a process of its own. See README.md for what is compared.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping
from torch import Tensor, nn

from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.training.book_keeping.gradients import choose, factored_gradients

N_WINDOWS, N_TIMES, STRIDE, GROUPS = 256, 256, 2, 8
CHANNELS = (1, 64, 128, 256, 256)
CLIPPING_NORM = 1.0
LAYOUTS = {"one window": 1, "4 windows": 4, "8 windows": 8, "16 windows": 16, "32 windows": 32}
Step = Callable[[], Tensor]


def critic(kernel: int) -> nn.Sequential:
    """Return four strided convolutions with group norm and leaky rectifiers, and a linear head on all of it."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(CHANNELS):
        layers += [nn.Conv1d(inner, outer, kernel, STRIDE, kernel // 2), nn.GroupNorm(GROUPS, outer)]
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(CHANNELS[-1] * N_TIMES // STRIDE**4, 1), nn.Flatten(0))


def clipping(norms: Tensor) -> Tensor:
    """Return the factor of each unit; 0 where the norm is not finite."""
    factors = (CLIPPING_NORM / norms.clamp_min(1e-300)).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


def flat(gradients: tuple[Tensor, ...]) -> Tensor:
    """Return gradients as one vector."""
    return torch.cat([gradient.flatten() for gradient in gradients])


def plain(model: nn.Module, windows: Tensor, units: Tensor) -> Step:  # noqa: ARG001
    """Return a step without privacy: forward, mean loss, backward."""
    parameters = tuple(model.parameters())
    return lambda: flat(torch.autograd.grad(model(windows).mean(), parameters))


def loop(model: nn.Module, windows: Tensor, units: Tensor) -> Step:
    """Return a step that takes one unit at a time by autograd."""
    parameters = tuple(model.parameters())
    rows = torch.argsort(units, stable=True).split(torch.bincount(units).tolist())

    def step() -> Tensor:
        total = torch.zeros(sum(p.numel() for p in parameters), device=windows.device)
        for mine in rows:
            row = flat(torch.autograd.grad(model(windows[mine]).mean(), parameters))
            total += row * clipping(torch.linalg.vector_norm(row, dtype=torch.float64)).to(row.dtype)
        return total

    return step


def factored(model: nn.Module, windows: Tensor, units: Tensor) -> Step:
    """Return a step by book-keeping."""
    parameters = list(model.parameters())

    def step() -> Tensor:
        rows = factored_gradients(model, parameters, lambda: model(windows), units)
        return rows.weighted_sum(clipping(rows.norms()))

    return step


def hooks(model: nn.Module, windows: Tensor, units: Tensor) -> Step:
    """Return a step with Opacus' gradients per window, averaged by unit."""
    hooked = GradSampleModule(model, loss_reduction="sum")
    counts = torch.bincount(units)

    def step() -> Tensor:
        hooked.zero_grad(set_to_none=True)
        hooked(windows).sum().backward()
        rows = []
        for parameter in hooked.parameters():
            per_window = parameter.grad_sample.flatten(1)
            if len(counts) < len(units):
                per_window = per_window.new_zeros(len(counts), per_window.shape[1]).index_add_(0, units, per_window)
            rows.append(per_window / counts[:, None])
        squared = sum(torch.linalg.vector_norm(row, dim=1).double().square() for row in rows)
        factors = clipping(squared.sqrt()).float()
        return torch.cat([factors @ row for row in rows])

    return step


def ghost(model: nn.Module, windows: Tensor, units: Tensor) -> Step:  # noqa: ARG001
    """Return a step with Opacus' fast gradient clipping, for which one window is one unit."""
    hooked = GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=CLIPPING_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(hooked.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=CLIPPING_NORM,
        expected_batch_size=None,
        loss_reduction="sum",
    )

    def step() -> Tensor:
        hooked.enable_hooks()
        hooked.zero_grad(set_to_none=True)
        DPTensorFastGradientClipping(hooked, optimizer, hooked(windows), "sum").backward()
        return flat(tuple(parameter.grad for parameter in hooked.parameters()))

    return step


WAYS = {"plain": plain, "loop": loop, "factored": factored, "Opacus hooks": hooks, "Opacus ghost": ghost}


def make(method: str, per_unit: int, *, kernel: int, device: torch.device) -> Step:
    """Return a step of one method, on a model and data of its own that are the same for all."""
    model = critic(kernel).to(device)
    windows = torch.randn(N_WINDOWS, 1, N_TIMES).to(device)
    step = WAYS[method](model, windows, (torch.arange(N_WINDOWS) // per_unit).to(device))

    def finished() -> Tensor:
        out = step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return out

    return finished


def ways_for(per_unit: int, *, args: argparse.Namespace) -> list[str]:
    """Return the ways that are compared with the plain step for a layout."""
    ours = ["loop", "factored"]
    if args.quick or per_unit not in (1, 16):
        return ours
    return [*ours, "Opacus hooks", *["Opacus ghost"] * (args.all and per_unit == 1)]


def timed(step: Callable[[], object]) -> float:
    """Return the milliseconds that one step takes."""
    start = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - start)


def times(per_unit: int, *, args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Return a row of the table for each method; every step is timed right after a plain one."""
    ways = ways_for(per_unit, args=args)
    steps = {method: make(method, per_unit, kernel=args.kernel, device=device) for method in ["plain", *ways]}
    sums = {method: step() for method, step in steps.items()}
    for method in ways:
        if (sums[method] - sums["loop"]).norm() > 1e-3 * sums["loop"].norm():
            raise SystemExit(f"{method} and a loop over units disagree; no time is worth reporting")
    size = len(sums["plain"])
    noise = statistics.median(timed(lambda: noise_alone(size, device)) for _ in range(5))
    pairs: dict[str, list[tuple[float, float]]] = {method: [] for method in ways}
    for _ in range(args.rounds):
        for method in ways:
            plain_ms = timed(steps["plain"])
            pairs[method].append((timed(steps[method]), plain_ms))
    everything = [pair for mine in pairs.values() for pair in mine]
    rows = [{"method": "plain", "ms": statistics.median(ms for _, ms in everything), "ratio": 1.0}]
    for method, mine in pairs.items():
        rows.append(
            {
                "method": method,
                "ms": statistics.median(ms for ms, _ in mine),
                "ratio": statistics.median(ms / plain_ms for ms, plain_ms in mine),
                "ratio_of_minima": min(ms for ms, _ in mine) / min(ms for _, ms in everything),
                "noise_ms": noise,
                "ratio_with_noise": statistics.median((ms + noise) / plain_ms for ms, plain_ms in mine),
            }
        )
    return rows


def noise_alone(size: int, device: torch.device) -> Tensor:
    """Return a private sum over nobody, which is noise and nothing else."""
    return PrivateSum(size, clipping_norm=CLIPPING_NORM, noise_multiplier=1.0, device=device).read()


def extra_memory(method: str, per_unit: int, *, kernel: int, device: torch.device) -> float:
    """Return the peak of three steps above what was held before them, in MB."""
    if device.type == "cuda":
        step = make(method, per_unit, kernel=kernel, device=device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    command = [sys.executable, __file__, "--kernel", str(kernel), "--peak", method, str(per_unit)]
    # Blocks above 64 kB go back to the system when they are freed, so that the peak is the step's own.
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    )
    return float(done.stdout)


def print_peak(method: str, per_unit: int, *, kernel: int) -> None:
    """Print the megabytes that this process reaches above what it held before its first step; Linux only."""
    torch.set_num_threads(1)
    step = make(method, per_unit, kernel=kernel, device=torch.device("cpu"))
    small = nn.Conv1d(1, 4, kernel, 2)  # loads what torch loads once
    torch.autograd.grad(small(torch.randn(2, 1, 64)).sum(), list(small.parameters()))
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    for _ in range(3):
        step()
    print((_status("VmHWM") - before) / 1e3)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def report(args: argparse.Namespace) -> dict[str, Any]:
    """Return every measurement, and the three numbers that stand for them."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layouts = {name: n for name, n in LAYOUTS.items() if n in (1, 16) or not args.quick}
    rows = []
    for threads in [1] if args.quick or device.type == "cuda" else [1, 2]:
        torch.set_num_threads(threads)
        for layout, per_unit in layouts.items():
            chosen = choose(n_windows=N_WINDOWS, n_units=N_WINDOWS // per_unit, device=device)
            for row in times(per_unit, args=args, device=device):
                here = {"threads": threads, "layout": layout, "per_unit": per_unit}
                rows.append({**here, **row, "chosen": row["method"] == chosen})
    peaks = {
        (method, n): extra_memory(method, n, kernel=args.kernel, device=device)
        for n in (1, 16)
        for method in ["plain", *ways_for(n, args=args)]
    }
    for row in rows:
        if (row["method"], row["per_unit"]) in peaks:
            row["extra_mb"] = peaks[row["method"], row["per_unit"]]
            row["memory_ratio"] = row["extra_mb"] / peaks["plain", row["per_unit"]]
    first = {row["per_unit"]: row for row in rows if row["chosen"] and row["threads"] == 1}
    return {
        "device": str(device),
        "torch": torch.__version__,
        "kernel": args.kernel,
        "rounds": args.rounds,
        "ratio_one_window": first[1]["ratio"],
        "ratio_several_windows": first[16]["ratio"],
        "memory_ratio": max(first[1]["memory_ratio"], first[16]["memory_ratio"]),
        "rows": rows,
    }


def table(found: dict[str, Any]) -> str:
    """Return measurements as text; an arrow marks what `choose` picks."""
    head = ["threads", "per unit", "method", "ms", "ratio", "of minima", "with noise", "extra MB", "of plain", ""]
    lines = [head]
    for row in found["rows"]:
        numbers = [
            f"{row[key]:.2f}" if key in row else "" for key in ("ratio", "ratio_of_minima", "ratio_with_noise")
        ]
        memory = [f"{row['extra_mb']:.0f}", f"{row['memory_ratio']:.2f}"] if "extra_mb" in row else ["", ""]
        names = [str(row["threads"]), row["layout"], row["method"], f"{row['ms']:.0f}"]
        lines.append([*names, *numbers, *memory, "<-" * row["chosen"]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="one thread, one and 16 windows per unit, no Opacus")
    parser.add_argument("--all", action="store_true", help="Opacus' ghost clipping too")
    parser.add_argument("--kernel", type=int, default=5, help="width of the convolutions (default 5)")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of every method (default 9, quick 7)")
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "PER_UNIT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rounds = args.rounds or (7 if args.quick else 9)
    if args.peak:
        print_peak(args.peak[0], int(args.peak[1]), kernel=args.kernel)
        return
    found = report(args)
    print(json.dumps(found, indent=1) if args.json else table(found))


if __name__ == "__main__":
    main()
