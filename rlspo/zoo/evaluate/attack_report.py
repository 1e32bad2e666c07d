"""The report after training: the agent's natural return and its returns under attack."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from rlspo.attacks import ATTACKS, attacked_evaluation
from rlspo.attacks.evaluation import ball_of_training
from rlspo.common.spaces import has_images
from rlspo.zoo.config.atomic import write_text

_VECTOR_RADIUS = 0.075
_IMAGE_RADIUS = 1 / 255
INNER_STEPS = 10


@dataclass(frozen=True)
class Report:
    """Returns of one agent.

    :param epsilon: radius of the attacks
    :param units: of the radius
    :param norm: of the ball
    :param returns: ``"natural"`` and each attack, to the returns of single episodes ``(n_episodes,)``
    :param skipped: why attacks are missing, or empty
    """

    epsilon: float
    units: str
    norm: str
    returns: dict[str, np.ndarray]
    skipped: str = ""

    def write(self, file: Path, about: Mapping[str, object]) -> None:
        """Write as JSON.

        :param about: further entries, such as the model, the steps, the seed
        """
        episodes = {name: [float(value) for value in values] for name, values in self.returns.items()}
        summary = {name: {"mean": float(np.mean(of)), "std": float(np.std(of))} for name, of in episodes.items()}
        attack = {"epsilon": self.epsilon, "units": self.units, "norm": self.norm, "inner_steps": INNER_STEPS}
        data = {**about, "attack": attack, "summary": summary, "returns": episodes}
        write_text(file, json.dumps(data, indent=2) + "\n")


def radius(model: BaseAlgorithm, asked: float | None) -> float:
    """Radius of the attacks: as asked for, else what the agent was trained against, else 0.075 (images: 1/255).

    :param asked: from the command line
    """
    if asked is not None:
        return asked
    own = getattr(model, "epsilon", None)
    if isinstance(own, int | float) and own > 0:
        return float(own)
    if has_images(model.observation_space):
        return _IMAGE_RADIUS if model.policy.normalize_images else 255 * _IMAGE_RADIUS
    return _VECTOR_RADIUS


def evaluate_attacked(model: BaseAlgorithm, env: VecEnv, n_episodes: int, epsilon: float, seed: int) -> Report:
    """Natural return and return under each attack, all from the same initial states.

    :param model: the agent
    :param env: environments for the evaluation; their ``VecNormalize`` gets the statistics of the agent's own
    :param n_episodes: for each attack, and without one
    """
    trained_in = model.get_env()
    if trained_in is not None and model.get_vec_normalize_env() is not None:
        sync_envs_normalization(trained_in, env)
    returns: dict[str, np.ndarray] = {}
    units, norm = _units(model), ball_of_training(model)["norm"]
    for attack in (None, *ATTACKS):
        env.seed(seed)
        try:
            returns[attack or "natural"] = attacked_evaluation(
                model, env, attack, epsilon, n_eval_episodes=n_episodes, steps=INNER_STEPS, seed=seed
            )
        except (ValueError, TypeError) as error:
            if attack is None:
                raise
            return Report(epsilon, units, norm, returns, skipped=str(error))
    return Report(epsilon, units, norm, returns)


def _units(model: BaseAlgorithm) -> str:
    """What the radius is measured in: the input of the policy's network."""
    if has_images(model.observation_space):
        return "of the full range of a pixel" if model.policy.normalize_images else "grey levels of a pixel"
    outside = model.get_vec_normalize_env()
    normalised = getattr(model, "normalize_observations", False) or (outside is not None and outside.norm_obs)
    return "standard deviations of the observation" if normalised else "in raw units of the observation"
