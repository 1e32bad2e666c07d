"""Settings that are known before a search: its first trials, and what a winner must beat besides those it began from.

One YAML file per agent, ``hyperparams/ALGO.references.yml``, with a block for an environment as in the agent's other files.
A block holds settings by name, each whole: what it leaves out has the default of the class, not that of the agent's file. What
belongs to the task (arguments and wrappers of the environment, the radius of an adversary), they take from where the search
begins.

::

    Hopper-v5:
      stock: {}                                         # the defaults of the class
      rl-zoo3: {n_steps: 512, batch_size: 32, gamma: 0.999, provenance: "rl-zoo3 2.9.2, ..."}
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rlspo.common.signatures import signature_of
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.convert import ACTIVATIONS, plain
from rlspo.zoo.config.hyperparams import agent_defaults, choose_block, find_file, policy_class
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.plan import Plan, make_plan
from rlspo.zoo.tune.space import SearchSpace

#: The settings that a search began from, by name.
DEFAULT = "default"
_TASK = ("env_kwargs", "env_wrapper", "vec_env_wrapper", "frame_stack", "monitor_kwargs")
_NAME = re.compile(r"[A-Za-z][\w.+-]{0,39}")


@dataclass(frozen=True)
class Reference:
    """Known settings.

    :param block: whole settings, as they stood in the file; None for those that the search began from
    :param point: the parameters of the search space that come nearest to them, for the sampler to learn from
    """

    block: dict[str, Any] | None
    point: dict[str, Any]


def find_references(algo: str, agent: type[BaseAlgorithm], given: Path | None) -> Path:
    """The file of known settings: the user's, or else the one that the agent's own package brings.

    :raises UserError: if there is none
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"--references: there is no file {given}.")
        return given
    found = find_file(f"{algo}.references", agent)
    if found is None:
        raise UserError(f"Agent {algo!r} has no hyperparams/{algo}.references.yml. Give one: --references my.references.yml")
    return found


def read_references(file: Path, env_id: str, families: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The known settings for an environment, by name.

    :raises UserError: if they are not of the right shape
    """
    name = choose_block(file, yaml_io.read_mapping(file), env_id, families)
    where = f"{file}, block {name!r}"
    blocks: dict[str, dict[str, Any]] = yaml_io.read_mapping(file)[name]
    for key, block in blocks.items():
        if not isinstance(key, str) or key == DEFAULT or key.startswith("trial") or not _NAME.fullmatch(key):
            raise UserError(
                f"{where}: {key!r} cannot name settings; use up to 40 letters and digits, and neither default nor trial."
            )
        if not isinstance(block, dict):
            raise UserError(f"{where}: {key} must be a mapping from keys to values, not {block!r}.")
        try:
            json.dumps(block, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: {key} holds what is not a finite number, text, list or mapping: {block!r}.") from error
    return blocks


def with_block(base: dict[str, Any], block: dict[str, Any] | None, n_timesteps: int) -> dict[str, Any]:
    """What ``rlspo train`` would have parsed, for known settings in place of those that the search began from.

    :param base: for these
    :param block: whole settings; None for ``base`` as it is
    :param n_timesteps: of one training
    """
    if block is None:
        return base
    # Where the block has arguments of the environment, those of the command line are among them.
    task: dict[str, Any] = {"env_kwargs": {}} if "env_kwargs" in block else {}
    return {**base, **task, "block": block, "conf_file": None, "hyperparams": {}, "n_timesteps": n_timesteps}


def place(
    blocks: Mapping[str, dict[str, Any]], file: Path, base: dict[str, Any], plan: Plan, space: SearchSpace
) -> dict[str, Reference]:
    """Check known settings, leave out what comes twice, and find each one's place in the search space.

    :param blocks: by name
    :param file: for messages
    :param base: what ``rlspo train`` would have parsed for the settings that the search begins from
    :param plan: of these
    :return: by name; first those that the search begins from
    :raises UserError: for settings that the agent refuses, or that have no place in the space
    """
    plans = {DEFAULT: plan}
    whole: dict[str, dict[str, Any] | None] = {DEFAULT: None}
    for name, block in blocks.items():
        _check_task(name, file, _task_of(plan), block)
        whole[name] = {**_task_of(plan), **block}
        args = with_block(base, whole[name], plan.config.settings.n_timesteps)
        try:
            plans[name] = make_plan(argparse.Namespace(**args))
        except UserError as error:
            raise UserError(f"{file}: {name}: {error}") from error
    found: dict[str, Reference] = {}
    seen: list[dict[str, Any]] = []
    for name, each in plans.items():
        settings = _whole(each)
        if settings in seen:
            continue
        seen.append(settings)
        try:
            found[name] = Reference(whole[name], space.nearest(settings))
        except ValueError as error:
            raise UserError(f"{space.where} has no place for the settings {name!r} of {file}: {error}. Add them.") from error
    return found


def _task_of(plan: Plan) -> dict[str, Any]:
    """What belongs to the task, rather than to how it is learned: known settings take it over, or they would not compare."""
    settings = plan.config.settings
    found = {key: getattr(settings, key) for key in _TASK if getattr(settings, key)}
    if "epsilon" in plan.config.agent:
        found["epsilon"] = plan.config.agent["epsilon"]  # the radius of the ball that an adversary may use
    return {"policy": settings.policy, **found}


def _check_task(name: str, file: Path, ours: dict[str, Any], block: Mapping[str, Any]) -> None:
    """Refuse known settings of another task.

    :raises UserError: naming what differs
    """
    for key in (*_TASK, "epsilon"):
        if key in block and block[key] != ours.get(key):
            raise UserError(
                f"{file}: {name}: {key} is {block[key]!r}, but {ours.get(key)!r} where the search begins. It belongs to the "
                "task, and returns on two tasks do not compare: leave it out."
            )


def _whole(plan: Plan) -> dict[str, Any]:
    """Every setting, defaults of the agent and of its policy included."""
    settings = plan.config.settings.model_dump(mode="json", exclude={"provenance", "n_timesteps"})
    agent = plain({**agent_defaults(plan.cls), **plan.agent_arguments})  # schedules in one form, however they were written
    policy = policy_class(plan.cls, plan.config.settings.policy, "policy")
    defaults = {name: parameter.default for name, parameter in signature_of(policy).parameters.items()}
    kwargs = {**plain(defaults), **(agent.get("policy_kwargs") or {})}
    if kwargs.get("net_arch") is None:  # SB3's defaults
        kwargs["net_arch"] = [256, 256] if issubclass(plan.cls, OffPolicyAlgorithm) else [64, 64]
    short = {plain(cls): name for name, cls in ACTIVATIONS.items()}
    kwargs["activation_fn"] = short.get(kwargs.get("activation_fn"), kwargs.get("activation_fn"))
    return {**settings, **agent, "policy_kwargs": kwargs}
