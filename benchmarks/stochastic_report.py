"""The table, the comparisons and the picture of continuous control; called by ``stori_report.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from stori_results import PLAIN, ROOT, Score, Scores, by_chance, verdict

PICTURE = ROOT / "docs" / "_static" / "stori" / "continuous.png"
TASKS = ("HalfCheetah", "Hopper")
TYPES = ("1", "2.1", "2.2", "3.1", "3.2")
CELLS = tuple(f"{task}-{kind}" for task in TASKS for kind in TYPES)
AGENTS = {"ppo": "PPO", "barpo": "BARPO", "pdppo": "PDPPO"}
COLOURS = {"ppo": "tab:gray", "barpo": "tab:purple", "pdppo": "tab:red"}
#: Where each agent's own kind of noise is: BARPO's adversary perturbs observations, PDPPO's critic sees what is left
#: after the decision and before chance.
NAMED_FOR = {"barpo": ("3.2",), "pdppo": ("1", "2.1")}


def score_text(score: Score | None) -> str:
    """The mean, and every seed."""
    if score is None:
        return "not run"
    seeds = ", ".join(f"{value:,.0f}" for value in score.seeds)
    return f"{score.value:,.0f} ({seeds})" if len(score.seeds) > 1 else f"{score.value:,.0f} (one seed)"


def table(scores: Scores, caption: str) -> str:
    """Returns by task and type, then a verdict for each agent."""
    lines = [f"| task | type | {' | '.join(AGENTS.values())} |", "|---" * (2 + len(AGENTS)) + "|"]
    for task in TASKS:
        for kind in TYPES:
            found = [score_text(scores.get((agent, f"{task}-{kind}"))) for agent in AGENTS]
            lines.append(f"| {task} | {kind} | {' | '.join(found)} |")
    lines += ["", f"Mean return, every seed in brackets. {caption}", ""]
    return "\n".join([*lines, *(f"- {text}" for text in verdicts(scores))]) + "\n"


def verdicts(scores: Scores) -> Iterator[str]:
    """Whether an agent is better than PPO under the noise that it is made for, and by more than without noise."""
    for agent, kinds in NAMED_FOR.items():
        for task in TASKS:
            plain = _against(agent, f"{task}-{PLAIN}", scores)
            for kind in kinds:
                cell = f"{task}-{kind}"
                ours, theirs = scores.get((agent, cell)), scores.get(("ppo", cell))
                where = f"{AGENTS[agent]} on {task}, type {kind}"
                if ours is None or theirs is None:
                    yield f"{where}: not run."
                    continue
                more = f"; without noise (3.1) {plain}" if plain else ""
                chance = f", which chance alone brings about in 1 of {1 / by_chance(ours, theirs):.0f} cases"
                answer = ANSWERS[verdict(ours, theirs)].format(chance=chance)
                yield f"**{where}: {answer}** {_against(agent, cell, scores)}{more}."


ANSWERS = {
    "better": "yes, every seed is above every seed of PPO{chance}.",
    "worse": "no, every seed is below every seed of PPO{chance}.",
    "undecided": "not shown: the seeds overlap with those of PPO, or there is only one.",
}


def _against(agent: str, cell: str, scores: Scores) -> str:
    """The two means beside each other."""
    ours, theirs = scores.get((agent, cell)), scores.get(("ppo", cell))
    if ours is None or theirs is None:
        return ""
    return f"{ours.value:,.0f} against {theirs.value:,.0f} ({_signed(ours.value - theirs.value)})"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{abs(value):,.0f}"


def draw(scores: Scores, file: Path = PICTURE) -> None:
    """Bars for each type with intervals over seeds; dots are seeds."""
    figure, axes = plt.subplots(1, len(TASKS), figsize=(10, 3.6), constrained_layout=True)
    for axis, task in zip(axes, TASKS, strict=True):
        for index, agent in enumerate(AGENTS):
            places = np.arange(len(TYPES)) + (index - 1) * 0.26
            for place, kind in zip(places, TYPES, strict=True):
                score = scores.get((agent, f"{task}-{kind}"))
                if score is None:
                    axis.text(place, 0, "?", ha="center", va="bottom", fontsize=8)
                    continue
                axis.bar(place, score.value, 0.24, color=COLOURS[agent], alpha=0.75)
                if score.low is not None and score.high is not None:
                    axis.vlines(place, score.low, score.high, color="black", lw=1)
                axis.plot([place] * len(score.seeds), score.seeds, "k.", ms=4)
        axis.set_xticks(range(len(TYPES)), TYPES)
        axis.set_title(f"STORI/{task}-v0", fontsize=10)
        axis.set_xlabel("type")
        axis.set_ylabel("return")
        axis.spines[["top", "right"]].set_visible(False)
    handles = [plt.Line2D([], [], marker="s", ls="", color=COLOURS[agent], label=AGENTS[agent]) for agent in AGENTS]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
    plt.close(figure)
