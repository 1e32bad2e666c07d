"""Files beside an exported agent that say how good it is: evaluation, attacks, learning curve, seeds, a recorded episode."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from rlspo.attacks import ATTACKS
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import EvaluationResult, evaluate
from rlspo.zoo.export.replay import play_one, write_episode
from rlspo.zoo.runs.evaluation_log import read_evaluations
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.runs.monitor import read_episodes
from rlspo.zoo.runs.saved_agent import SavedAgent

_PARTS = 40  # of a training, in a curve of its episodes


@dataclass(frozen=True)
class Evaluated:
    """A seed and its evaluation."""

    agent: SavedAgent
    result: EvaluationResult

    @property
    def seed(self) -> int | None:
        """Of the training; None where it is not known."""
        return None if self.agent.config is None else self.agent.config.seeds.seed

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.result.returns.mean())


def check_seeds(agents: Sequence[SavedAgent]) -> None:
    """Refuse agents that are not seeds of one training.

    :raises UserError: naming what differs
    """
    first = agents[0]
    for other in agents[1:]:
        for what in ("algo", "env", "num_timesteps"):
            if getattr(first, what) != getattr(other, what):
                raise UserError(
                    f"{first.model_file} and {other.model_file} are not seeds of one training: {what} is "
                    f"{getattr(first, what)} and {getattr(other, what)}."
                )
        both = _settings_of(first), _settings_of(other)
        for what, one in both[0].items():
            if both[1].get(what) != one:
                raise UserError(
                    f"{first.model_file} and {other.model_file} are not seeds of one training: {what} is {one!r} and "
                    f"{both[1].get(what)!r}."
                )
    seeds = [None if agent.config is None else agent.config.seeds.seed for agent in agents]
    if len(agents) > 1 and None in seeds:
        raise UserError("The seeds of model files alone are not known; give the folders of the runs.")
    if len({*seeds}) < len(seeds):
        raise UserError(f"The runs are of the seeds {', '.join(map(str, seeds))}; give each seed once.")


def _settings_of(agent: SavedAgent) -> dict[str, Any]:
    """What all seeds of a training have in common; empty for a file alone."""
    if agent.config is None:
        return {}
    config = agent.config.model_dump()
    del config["settings"]["provenance"]
    return {"model": agent.which, "eval_env_kwargs": config["eval_env_kwargs"], **config["agent"], **config["settings"]}


def median_of(evaluated: Sequence[Evaluated]) -> Evaluated:
    """The seed with the median return; of an even number the lower of the two in the middle, so never the best of several."""
    return sorted(evaluated, key=lambda each: each.mean)[(len(evaluated) - 1) // 2]


def attacks_on(model: BaseAlgorithm) -> Sequence[str]:
    """The attacks that an agent is evaluated under: all, for one that was trained against some."""
    return tuple(ATTACKS) if hasattr(model, "epsilon") else ()


def write_entry(
    folder: Path,
    chosen: Evaluated,
    evaluated: Sequence[Evaluated],
    n_episodes: int,
    on_episode: Callable[[], None] | None = None,
) -> None:
    """Write the files beside an exported agent.

    :param folder: exists
    :param chosen: the one that is exported
    :param evaluated: all seeds
    :param n_episodes: of each attack
    """
    agent = chosen.agent
    _write(folder / "evaluation.json", _evaluation(chosen.result))
    seeds = [{"seed": each.seed, "mean": each.mean} for each in sorted(evaluated, key=lambda each: each.mean)]
    _write(folder / "seeds.json", {"chosen": chosen.seed, "rule": "median of the mean returns", "seeds": seeds})
    model = agent.load("cpu")
    attacked = {
        attack: evaluate(agent, n_episodes, attack=attack, device="cpu", on_episode=on_episode) for attack in attacks_on(model)
    }
    if attacked:
        found = {attack: _evaluation(result) for attack, result in attacked.items()}
        _write(folder / "attacks.json", {"epsilon": next(iter(attacked.values())).epsilon, "attacks": found})
    if agent.folder is not None:
        _write_curve(folder / "curve.csv", agent.folder, chosen.seed)
    write_episode(folder, play_one(agent, model))


def _evaluation(result: EvaluationResult) -> dict[str, Any]:
    """Without the places of this machine, and with one number for each episode."""
    data = result.as_dict()
    left_out = {"agent", "episodes", "search"} | ({"attack"} if result.attack is None else set())
    kept = {key: value for key, value in data.items() if key not in left_out}
    return {**kept, "returns": [float(value) for value in result.returns]}


def _write_curve(file: Path, run: Path, seed: int | None) -> None:
    """Steps, mean, lowest and highest return of the evaluations during training; without any, of parts of its own episodes."""
    evaluations, training = RunFolder.existing(run).evaluations, read_episodes(run)
    returns: Sequence[np.ndarray] | np.ndarray
    if evaluations.is_file():
        of, (steps, returns) = "", read_evaluations(evaluations, seed)
    elif len(training.steps):
        parts = min(_PARTS, len(training.steps))
        of, returns = "training_", np.array_split(training.returns, parts)
        steps = np.array([part[-1] for part in np.array_split(training.steps, parts)])
    else:
        return
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["steps", *(of + name for name in ("mean", "lowest", "highest"))])
        for at, found in zip(steps, returns, strict=True):
            writer.writerow([int(at), *(f"{value:.6g}" for value in (np.mean(found), np.min(found), np.max(found)))])


def _write(file: Path, data: Any) -> None:
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
