"""One recorded episode of an agent, and playing it again: whether an agent still acts as it did, on any machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors.torch import load_file, save
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.trees import by_key
from rlspo.zoo.evaluate.acting import Actor, own_randomness
from rlspo.zoo.evaluate.evaluation import SEED
from rlspo.zoo.runs.saved_agent import SavedAgent

EPISODE, STEPS = "episode.json", "episode.safetensors"
#: Steps whose observation and action are kept, and the bytes that their observations may have.
_MOST_STEPS, _MOST_BYTES = 100, 2**17
_OBSERVATIONS = "observations/"


@dataclass(frozen=True)
class Played:
    """An episode from its first observation to its end.

    :param observations: of the first steps, as the agent saw them: by the key of a Dict observation, else by ``""``,
        ``(n, *obs_shape)``
    :param actions: the agent's answers, ``(n, *action_shape)``
    :param rewards: of all steps, ``(length,)``
    :param total: the environment's own return
    """

    observations: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    total: float


def play_one(agent: SavedAgent, model: BaseAlgorithm, seed: int = SEED) -> Played:
    """Let an agent play one deterministic episode.

    :param seed: of the environment
    """
    env = agent.build_env(1, seed)
    try:
        agent.check_fit(model, env)
        env.seed(seed)
        with own_randomness(model, seed):
            return _play(model, env)
    finally:
        env.close()


def _play(model: BaseAlgorithm, env: VecEnv) -> Played:
    actor = Actor(model, env)
    observations: Any = env.reset()
    starts = np.ones(1, bool)
    seen: list[dict[str, np.ndarray]] = []
    actions, rewards = [], []
    kept = _MOST_STEPS
    while True:
        action = actor(observations, starts)
        if len(seen) < kept:
            seen.append({key: np.array(part[0]) for key, part in by_key(observations).items()})
            kept = min(kept, max(1, _MOST_BYTES // sum(part.nbytes for part in seen[0].values())))
            actions.append(np.array(action[0]))
        observations, reward, starts, infos = env.step(action)
        rewards.append(float(reward[0]))
        if "episode" in infos[0]:
            by_name = {key: np.stack([each[key] for each in seen]) for key in seen[0]}
            return Played(by_name, np.stack(actions), np.array(rewards), float(infos[0]["episode"]["r"]))


def write_episode(folder: Path, played: Played, seed: int = SEED) -> None:
    """Write both files of a recorded episode.

    :param folder: exists
    """
    tensors = {f"{_OBSERVATIONS}{key}": part for key, part in played.observations.items()}
    tensors |= {"actions": played.actions, "rewards": played.rewards}
    content = save({name: torch.as_tensor(np.ascontiguousarray(part)) for name, part in tensors.items()})
    (folder / STEPS).write_bytes(content)
    record = {"seed": seed, "return": played.total, "length": len(played.rewards), "steps_kept": len(played.actions)}
    (folder / EPISODE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Recorded:
    """A recorded episode, from its files.

    :param seed: of the environment
    :param played: what happened
    """

    seed: int
    played: Played

    @classmethod
    def read(cls, folder: Path) -> Recorded:
        """Read what :func:`write_episode` wrote."""
        record = json.loads((folder / EPISODE).read_text(encoding="utf-8"))
        arrays = {name: tensor.numpy() for name, tensor in load_file(folder / STEPS).items()}
        seen = {name.removeprefix(_OBSERVATIONS): part for name, part in arrays.items() if name.startswith(_OBSERVATIONS)}
        return cls(record["seed"], Played(seen, arrays["actions"], arrays["rewards"], record["return"]))

    def actions_of(self, model: BaseAlgorithm) -> np.ndarray:
        """What an agent does at the recorded observations, one after the other."""
        memory: Any = None
        chosen = []
        for step in range(len(self.played.actions)):
            parts = {key: part[step : step + 1] for key, part in self.played.observations.items()}
            observation: Any = parts if isinstance(model.observation_space, spaces.Dict) else parts[""]
            action, memory = model.predict(observation, memory, np.array([step == 0]), deterministic=True)
            chosen.append(action[0])
        return np.stack(chosen)
