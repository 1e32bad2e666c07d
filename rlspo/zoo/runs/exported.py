"""Agents that were exported, for commands about saved agents: what their files say, checked, and loading them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from rlspo.common.errors import IncompatibleModelError
from rlspo.common.exports.agents import check_environment, load
from rlspo.common.exports.folder import is_export, read_description, read_tensors
from rlspo.common.exports.lookup import find_export, trained_agents
from rlspo.common.exports.statistics import with_statistics
from rlspo.common.normalizers import scaled_rewards
from rlspo.common.randomness import generators_kept
from rlspo.zoo.config.allowed import Allowed, check_env, check_packages, check_settings
from rlspo.zoo.errors import UserError


@dataclass(frozen=True)
class Export:
    """The folder of an exported agent.

    :param folder: with ``agent.json``
    :param data: what it says
    """

    folder: Path
    data: dict[str, Any]

    @classmethod
    def at(cls, path: Path, allowed: Allowed) -> Export | None:
        """The exported agent at a path, or of a name such as ``barpo/Hopper-v5``; None where the path is something else.

        :param allowed: what its record may name
        :raises UserError: for a folder that is damaged, and names in it that are not allowed
        """
        if not is_export(path) and (path.exists() or path.with_name(f"{path.name}.zip").exists()):
            return None
        try:
            folder = find_export(path)
            export = cls(folder, read_description(folder))
            export._check(allowed)
        except FileNotFoundError:
            return None
        except IncompatibleModelError as error:
            raise UserError(str(error)) from error
        return export

    def _check(self, allowed: Allowed) -> None:
        """Refuse names that may not be imported."""
        where, said = f"{self.folder}: environment", self.data.get("environment")
        if said is None:
            return
        try:
            check_environment(said, where)
        except ValueError as error:
            raise UserError(str(error)) from error
        check_env(said["id"], where, allowed)
        check_packages(list(map(str, said["gym_packages"])), where, allowed)
        check_settings({"env_kwargs": said["env_kwargs"]}, where, allowed)
        check_settings(said["wrapping"], where, allowed)

    @property
    def description(self) -> dict[str, Any]:
        """The arguments of :func:`~rlspo.zoo.runs.saved_agent.find_agent` that the file gives."""
        said = self.data.get("environment")
        known = {} if said is None else {"env": said["id"], **{key: said[key] for key in said if key != "id"}}
        return {"env_kwargs": {}, "wrapping": {}, "gym_packages": [], "algo": self.data["agent"], **known}

    def load(self, device: str) -> BaseAlgorithm:
        """The agent, to act with.

        :raises UserError: for a folder that cannot be read here
        """
        try:
            with generators_kept():
                model: BaseAlgorithm = load(self.folder, device=device)
        except IncompatibleModelError as error:
            raise UserError(str(error)) from error
        return model

    def normalized(self, env: VecEnv) -> VecEnv:
        """Environments with the frozen statistics of the agent's ``VecNormalize``; as they are where it has none.

        :raises UserError: for statistics of other environments
        """
        if self.data["normalize"] is None:
            return env
        try:
            env = with_statistics(env, self.data["normalize"], read_tensors(self.folder, self.data))
        except IncompatibleModelError as error:
            env.close()
            raise UserError(str(error)) from error
        normalize = unwrap_vec_normalize(env)
        assert normalize is not None
        normalize.training = normalize.norm_reward = False
        return env

    def reward_scaling(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """From rewards of the environment to those that the ``VecNormalize`` showed the agent; None if the same."""
        said = self.data["normalize"]
        if said is None or not said["norm_reward"]:
            return None
        variance = float(read_tensors(self.folder, self.data)["vecnormalize.ret_rms.var"])
        return lambda rewards: scaled_rewards(rewards, variance, said["epsilon"], said["clip_reward"])


def hint_at_names() -> str:
    """A sentence with the names of the trained agents; empty where there are none."""
    known = trained_agents()
    return f" Trained agents by name: {', '.join(known)}." if known else ""
