"""Training speed of this checkout against another one of rlspo, in turn: is a change slower than what was there before?

    git worktree add ../before main~20
    python benchmarks/regression.py ../before --cases hopper hopper-barpo sac --json benchmarks/results/regression.json

Each checkout trains in a process of its own, with the same cases, seeds and settings (those of ``throughput.py``). The two
take turns of a few seconds; the order changes each time. The ratio is the median over all turns, and its interval holds the
middle half of them. Networks compile before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
#: What a worker runs: trains a slice for each line that it reads.
WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
import ale_py, gymnasium, torch, rlspo
from throughput import CASES, timed
torch.set_num_threads(1)
gymnasium.register_envs(ale_py)
case = CASES[sys.argv[1]]
own = {"policy": case.policy, "compile": sys.argv[3] == "compiled", **case.ours}
model = getattr(rlspo, case.agent)(env=case.make_env(), **own, **case.settings, device="cpu", seed=0)
for _ in range(2):
    timed(model, case.n_steps * case.n_envs)
print("ready", rlspo.__file__, flush=True)
for line in sys.stdin:
    print(case.steps / timed(model, case.steps), flush=True)
"""


class Checkout:
    """A checkout of rlspo that trains one case in a process of its own."""

    def __init__(self, folder: Path, case: str, mode: str) -> None:
        env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, case, str(HERE), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
            cwd=folder,
        )
        while not (line := self._read()).startswith("ready"):  # other lines are what environments print
            pass
        if folder not in Path(line.split(maxsplit=1)[1].strip()).parents:
            raise RuntimeError(f"{folder} was to be measured; {line.split(maxsplit=1)[1].strip()} was imported.")

    def _read(self) -> str:
        line = _pipe(self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"Training ended with exit code {self.process.wait()}.")
        return line

    def steps_per_second(self) -> float:
        """Train one slice."""
        stdin = _pipe(self.process.stdin)
        stdin.write("go\n")
        stdin.flush()
        return float(self._read())

    def close(self) -> None:
        _pipe(self.process.stdin).close()
        self.process.wait()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def compare(before: Path, case: str, turns: int, mode: str) -> dict[str, object]:
    """
    :param before: the other checkout
    :param turns: slices that each trains
    :return: speeds and ratios, this checkout's over the other's
    """
    pair = {"before": Checkout(before, case, mode), "after": Checkout(HERE.parent, case, mode)}
    speeds: dict[str, list[float]] = {name: [] for name in pair}
    for turn in range(turns):
        for name in sorted(pair, reverse=turn % 2 == 1):
            speeds[name].append(pair[name].steps_per_second())
    for checkout in pair.values():
        checkout.close()
    ratios = sorted(after / before for before, after in zip(speeds["before"], speeds["after"], strict=True))
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "case": case,
        "mode": mode,
        **{name: round(statistics.median(values)) for name, values in speeds.items()},
        "fastest": {name: round(max(values)) for name, values in speeds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "middle_half": [round(low, 3), round(high, 3)],
    }


def commit(folder: Path) -> str:
    """The commit that is checked out."""
    return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=folder, text=True).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder of the other checkout")
    parser.add_argument("--cases", nargs="+", default=["hopper", "halfcheetah", "hopper-barpo", "sac"])
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--eager", action="store_true", help="without compilation")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    args = parser.parse_args()
    before = args.before.resolve()
    results = []
    for case in args.cases:
        results.append(compare(before, case, args.turns, "eager" if args.eager else "compiled"))
        print(results[-1], flush=True)
        if args.json:
            body = {"before": commit(before), "after": commit(HERE.parent), "results": results}
            args.json.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
