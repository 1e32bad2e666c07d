"""The tables and pictures of results in docs/stori.md and docs/stochastic.md.

    python benchmarks/stori_report.py

Reads the exported grids ``stori_ppo``, ``stori_agents`` and ``stochastic_mujoco``, the scores of no skill and the published
returns, all in ``zoo/results/``, and writes ``docs/_results/stori_*.md`` and ``docs/_static/stori/*.png``. What has not been
run yet is shown as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stochastic_report
import stori_pictures
from stori_results import CELLS, PLAIN, RESULTS, ROOT, Score, Scores, about_grid, kept, of_grid, published, references, verdict

DOCS = ROOT / "docs" / "_results"
MISSING = "not run"
ALGORITHMS = ("DreamerV3", "STORM")
LABELS = {"ppo": "PPO", "barpo": "BARPO", "moe-ppo": "PPO, mixture"}


def row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """With a digit after the point where that says something.

    >>> number(3.14159), number(1234.5)
    ('3.1', '1,234')
    """
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def shown(score: Score | None) -> str:
    """A mean with its interval, and the number of seeds where it is known."""
    if score is None:
        return MISSING
    ends = "" if score.low is None or score.high is None else f" ({number(score.low)} to {number(score.high)})"
    seeds = len(score.seeds)
    return f"{number(score.value)}{ends}" + (f", {seeds} seed{'s' if seeds > 1 else ''}" if seeds else "")


def share(value: float | None) -> str:
    """In percent."""
    return "" if value is None else f"{100 * value:.0f} %"


def caption(folder: Path) -> str:
    """How a grid was run, and what its intervals are."""
    about = about_grid(folder)
    if not about:
        return f"The grid `{folder.name}` has not been run."
    steps = ", ".join(f"{count:,}" for count in about["n_timesteps"])
    return (
        f"Grid `{folder.name}`: {steps} decision steps, {about['episodes']} episodes of evaluation, seeds "
        f"{', '.join(map(str, about['seeds']))}. Intervals are 95 % bootstrap intervals of the mean over seeds: of two or "
        "three seeds they are the lowest and the highest, too narrow to rank by. A single seed has none."
    )


def returns(ppo: Scores, others: Scores, skill_free: Scores) -> str:
    """All cells: no skill, PPO, and what was published."""
    lines = [row(["configuration", "random", "no action", "PPO", "kept", *(f"{name} (digitised)" for name in ALGORITHMS)])]
    lines.append("|---" * 7 + "|")
    for cell in CELLS:
        lines.append(
            row(
                [
                    f"`{cell}`",
                    shown(skill_free.get(("random", cell))),
                    shown(skill_free.get(("noop", cell))),
                    shown(ppo.get(("ppo", cell))),
                    share(kept("ppo", cell, ppo, skill_free)),
                    *(shown(others.get((name, cell))) for name in ALGORITHMS),
                ]
            )
        )
    return "\n".join([*lines, "", caption(RESULTS / "stori_ppo"), "", PROTOCOLS]) + "\n"


PROTOCOLS = (
    "*kept*: (score - random) / (score of 3.1 - random of 3.1); empty where PPO is no better than random in 3.1. "
    "DreamerV3 and STORM were read off the bar chart of the public repository of the paper, by pixels: the mean and "
    "what are most likely the least and the greatest of three seeds. They are trained for the same 4e5 frames and "
    "evaluated in 100 episodes, but not in the same way: chance is drawn for each of the four frames there and once "
    "for each decision step here. With replaced actions and p = 0.3, the four frames of a step all go as intended in "
    "36 % (Breakout) to 26 % (BankHeist) of the cases there, and in 78 % to 72 % here. Both are model-based and "
    "update far more often for each step. Random and no action: means of 100 episodes with 95 % intervals; where "
    "noise only hides the screen, these policies score what they score in 3.1."
)


def agents_table(scores: Scores, skill_free: Scores) -> str:
    """PPO, BARPO and the mixture on types 1 and 3.1."""
    names = [*LABELS, *sorted({agent for agent, _ in scores} - set(LABELS))]
    lines = [row(["configuration", *(LABELS.get(name, name) for name in names)]), "|---" * (1 + len(names)) + "|"]
    cells = [cell for cell in CELLS if cell.endswith(("-1", f"-{PLAIN}"))]
    for cell in cells:
        lines.append(row([f"`{cell}`", *(shown(scores.get((name, cell))) for name in names)]))
        if not cell.endswith(PLAIN):
            lines.append(row(["kept", *(share(kept(name, cell, scores, skill_free)) for name in names)]))
    lines += ["", f"PPO is that of the first table. {caption(RESULTS / 'stori_agents')}", "", *told(scores, cells)]
    return "\n".join(lines) + "\n"


def told(scores: Scores, cells: Sequence[str]) -> list[str]:
    """In which cells an agent is better than PPO, in words."""
    lines = []
    for name in list(LABELS)[1:]:
        found: dict[str, list[str]] = {}
        for cell in cells:
            found.setdefault(verdict(scores.get((name, cell)), scores.get(("ppo", cell))), []).append(f"`{cell}`")
        parts = [f"{word} in {', '.join(found[key])}" for key, word in WORDS.items() if key in found]
        lines.append(f"- {LABELS[name]} beside PPO: {'; '.join(parts)}.")
    return lines


WORDS = {
    "better": "every seed above every seed of PPO",
    "worse": "every seed below every seed of PPO",
    "undecided": "not told apart (the seeds overlap, or there is only one)",
    "missing": "not run",
}


def write(name: str, text: str) -> None:
    DOCS.mkdir(exist_ok=True)
    (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    skill_free, others = references(), published()
    ppo = of_grid(RESULTS / "stori_ppo", CELLS, "sampled")
    several = {**ppo, **of_grid(RESULTS / "stori_agents", CELLS, "sampled")}
    write("stori_returns", returns(ppo, others, skill_free))
    write("stori_agents", agents_table(several, skill_free))
    named: dict[str, Any] = {"PPO": ("ppo", ppo), **{name: (name, others) for name in ALGORITHMS}}
    stori_pictures.losses(named, skill_free)
    stori_pictures.returns({**named, "BARPO": ("barpo", several), "PPO, mixture": ("moe-ppo", several)}, skill_free)
    continuous = of_grid(RESULTS / "stochastic_mujoco", stochastic_report.CELLS, "natural")
    write("stori_continuous", stochastic_report.table(continuous, caption(RESULTS / "stochastic_mujoco")))
    stochastic_report.draw(continuous)


if __name__ == "__main__":
    main()
