"""The docs' table of a queue of studies: how far each is, and what came out.

python benchmarks/studies_table.py        # docs/_results/studies.md from zoo/studies.yml and zoo/studies/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rlspo.zoo.tune.queue import read_queue, standings

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("queue", nargs="?", type=Path, default=ROOT / "zoo" / "studies.yml")
    file = parser.parse_args().queue
    rows = ["| study | trials | trained on fresh seeds | hours | what came out |", "|---|---|---|---|---|"]
    for each in standings(read_queue(file)):
        done, trials = each.trials
        fresh, all_fresh = each.fresh
        hours = f"{each.spent / 3600:.1f}" if each.spent else ""
        rows.append(f"| `{each.name}` | {done} of {trials} | {fresh} of {all_fresh} | {hours} | {each.result} |")
    target = ROOT / "docs" / "_results" / f"{file.stem}.md"
    target.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
