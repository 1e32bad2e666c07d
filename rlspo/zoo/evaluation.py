"""Judging a saved agent by many whole episodes: the numbers, and the records of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.attacks.evaluation import Episodes, attacked_episodes, play
from rlspo.zoo.acting import Actor, own_randomness
from rlspo.zoo.errors import UserError
from rlspo.zoo.files import whole, write_text
from rlspo.zoo.report import INNER_STEPS, radius
from rlspo.zoo.run_folder import environment_record
from rlspo.zoo.saved import SavedAgent
from rlspo.zoo.statistics import interval, iqm

#: Seed of the environments, unless another is asked for: the same starts for all agents, far from the seeds of training.
SEED = 1_000_000
SIDE_BY_SIDE = 16
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Evaluation:
    """Episodes of one agent, and how they were played.

    :param episodes: what each came to, environment copy by environment copy
    :param n_envs: copies of the environment
    :param seed: of the first copy; the others count up from it
    :param attack: on the observations, None for none
    :param epsilon: radius of the attack in units of the policy's input, None without an attack
    """

    agent: SavedAgent
    episodes: Episodes
    n_envs: int
    deterministic: bool
    seed: int
    attack: str | None
    epsilon: float | None

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted returns, ``(n_episodes,)``."""
        return self.episodes.returns

    @property
    def lengths(self) -> np.ndarray:
        """Steps, ``(n_episodes,)``."""
        return self.episodes.lengths

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes that the environment called a success; None where it never said."""
        known = self.episodes.successes[~np.isnan(self.episodes.successes)]
        return float(known.mean()) if known.size else None

    def summary(self) -> dict[str, Any]:
        """The statistics, plain.

        The interval is over episodes of this one agent, not over agents trained anew; it is None for a single episode.
        """
        middle = interval(self.returns, iqm, confidence=CONFIDENCE)
        return {
            "mean": float(self.returns.mean()),
            "std": float(self.returns.std()),
            "median": float(np.median(self.returns)),
            "iqm": middle.value,
            "iqm_interval": [middle.low, middle.high] if len(self.returns) > 1 else None,
            "confidence": CONFIDENCE,
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "mean_length": float(self.lengths.mean()),
            "success_rate": self.success_rate,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One mapping for each episode, plain."""
        of = self.episodes
        return [
            {
                "episode": number,
                "env": int(copy),
                "seed": self.seed + int(copy),
                "return": float(of.returns[number]),
                "length": int(of.lengths[number]),
                "success": None if np.isnan(of.successes[number]) else bool(of.successes[number]),
            }
            for number, copy in enumerate(of.copies)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything, plain: which agent, how it was judged, the statistics, every episode, and versions."""
        return {
            "agent": {
                "model": str(self.agent.model_file),
                "which": self.agent.which,
                "algo": self.agent.algo,
                "env": self.agent.env,
                "env_kwargs": self.agent.recipe.env_kwargs,
                "num_timesteps": self.agent.num_timesteps,
            },
            "n_episodes": len(self.returns),
            "n_envs": self.n_envs,
            "deterministic": self.deterministic,
            "seed": self.seed,
            "attack": None
            if self.attack is None
            else {"name": self.attack, "epsilon": self.epsilon, "inner_steps": INNER_STEPS},
            "summary": self.summary(),
            "episodes": self.rows(),
            "versions": environment_record()["packages"],
        }

    def write_json(self, file: Path) -> None:
        """Write :meth:`as_dict`, whole or not at all."""
        write_text(file, json.dumps(self.as_dict(), indent=2) + "\n")

    def write_csv(self, file: Path) -> None:
        """Write :meth:`rows`, whole or not at all; success is empty where the environment said nothing."""
        rows = self.rows()
        with whole(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def evaluate(
    agent: SavedAgent,
    n_episodes: int = 100,
    n_envs: int | None = None,
    deterministic: bool = True,
    seed: int = SEED,
    attack: str | None = None,
    epsilon: float | None = None,
    device: str = "auto",
    on_episode: Callable[[], None] | None = None,
) -> Evaluation:
    """Play whole episodes, shared out evenly over copies of the environment, so that short ones do not count more often.

    :param agent: from :func:`rlspo.zoo.saved.find_agent`
    :param n_episodes: how many, at least 1
    :param n_envs: copies of the environment that step side by side (default: 16, or one for each episode)
    :param deterministic: take the likeliest action, not a sample
    :param seed: of the first copy, the agent's samples and the attack; the other copies count up from it
    :param attack: one of :data:`rlspo.attacks.ATTACKS`
    :param epsilon: radius of the attack (default: that of training, else 0.075, for images 1/255)
    :param device: of the networks
    :param on_episode: called after each episode
    :raises UserError: for an agent that cannot be loaded, does not fit the environment, or cannot be attacked
    """
    n_envs = min(n_episodes, n_envs or SIDE_BY_SIDE)
    model = agent.load(device)
    env = agent.build_env(n_envs, seed)
    try:
        agent.check_fit(model, env)
        env.seed(seed)
        with own_randomness(model, seed):
            if attack is None:
                episodes = play(Actor(model, env, deterministic), env, n_episodes, on_episode)
            else:
                epsilon = radius(model, epsilon)
                episodes = _under_attack(
                    model, env, attack, epsilon, n_episodes, INNER_STEPS, seed, deterministic, on_episode=on_episode
                )
    finally:
        env.close()
    return Evaluation(agent, episodes, n_envs, deterministic, seed, attack, None if attack is None else epsilon)


def _under_attack(*arguments: Any, **others: Any) -> Episodes:
    """Attacked episodes, with one clear message where the agent is none that can be attacked."""
    try:
        return attacked_episodes(*arguments, **others)
    except (TypeError, ValueError) as error:
        raise UserError(f"--attack: {error}") from error
