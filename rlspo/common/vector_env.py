"""Gymnasium's vectorised environments, seen as SB3's ``VecEnv``.

SB3 resets an environment in the step that ends its episode and hands over the last observation in
``info["terminal_observation"]``. Gymnasium has three ways to do it, and every vectorised environment uses one:

``SAME_STEP``
    the same as SB3; the last observation and info are in ``final_obs`` and ``final_info``.
``NEXT_STEP``
    the step *after* the last one ignores its action and only resets. Such a step is not a transition of the task. It is marked
    in its info (:func:`only_reset`), and agents leave it out of learning.
``DISABLED``
    the environment never resets; the adapter does, in the same step, as SB3 would.
"""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn, VecEnvWrapper

from rlspo.common.trees import tree_leaves, tree_map

ARRAY_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
#: Key in an info, a name that no environment uses.
ONLY_RESET = "rlspo.only_reset"


def check_resets(env: Any) -> None:
    """Check that environments, wrapped or not, reset in the step that ends an episode.

    :raises ValueError: where they take a step of their own for it, which would stand inside of sequences
    """
    while env is not None and not isinstance(env, GymnasiumVecEnv):
        env = getattr(env, "venv", None)
    if env is not None and env.autoreset_mode is AutoresetMode.NEXT_STEP:
        raise ValueError(
            "The environments reset in a step of their own, which would stand inside the sequences that a policy with memory "
            "learns from. Make them with gymnasium.make_vec(..., vectorization_mode='sync', vector_kwargs={'autoreset_mode': "
            "gymnasium.vector.AutoresetMode.SAME_STEP})."
        )


def check_around_resets(env: Any) -> None:
    """Check that no wrapper takes the steps in which environments only reset for steps of an episode.

    :raises ValueError: for one that does
    """
    around: list[str] = []
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecFrameStack) or (isinstance(env, VecNormalize) and env.norm_reward and env.training):
            around.append(type(env).__name__)
        env = env.venv
    if around and isinstance(env, GymnasiumVecEnv) and env.autoreset_mode is AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"The environments reset in a step of their own, which {around[0]} takes for a step of an episode: frames of two "
            "episodes are stacked, and rewards of 0 are counted. Make them with gymnasium.make_vec(..., vectorization_mode="
            "'sync', vector_kwargs={'autoreset_mode': gymnasium.vector.AutoresetMode.SAME_STEP})."
        )


def only_reset(info: dict[str, Any]) -> bool:
    """Whether the environment only reset in the step that gave this info, without a decision."""
    return info.get(ONLY_RESET, False) is True


class GymnasiumVecEnv(VecEnv):
    """Adapter from :class:`gymnasium.vector.VectorEnv` to SB3's ``VecEnv``.

    The statistics of each episode (``info["episode"]``: return ``r``, length ``l``, seconds since the reset ``t``) are
    kept here unless the environment already gives them, so neither ``Monitor`` nor ``VecMonitor`` is needed, and the
    adapter answers True when asked whether it is wrapped in ``Monitor``. Steps that only reset are not counted.

    >>> env = GymnasiumVecEnv(gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point"))
    >>> env.reset().shape
    (2, 4)
    >>> observations, rewards, dones, infos = env.step(np.array([0, 1]))
    >>> rewards
    array([1., 1.], dtype=float32)

    :param env: ``SyncVectorEnv``, ``AsyncVectorEnv``, ``ale_py``'s ``AtariVectorEnv``, or any other that declares how it
        resets. Observations are Box, Discrete, MultiDiscrete, MultiBinary, or a flat Dict of these.
    :param monitored: the environments inside are wrapped in ``Monitor``, whose statistics are used: wrappers around it may end
        episodes early or clip rewards
    :raises TypeError: if ``env`` is something else
    :raises ValueError: if its spaces, its batch size or its autoreset mode cannot be expressed as a ``VecEnv``
    """

    def __init__(self, env: VectorEnv, monitored: bool = False) -> None:
        if not isinstance(env, VectorEnv):
            raise TypeError(
                f"GymnasiumVecEnv adapts a gymnasium.vector.VectorEnv, not {type(env).__name__}. A single environment "
                "and an SB3 VecEnv need no adapter: give them to the agent as they are."
            )
        _check_spaces(env)
        self.env, self.monitored = env, monitored
        self.autoreset_mode = autoreset_mode(env)
        self._begin_episodes(env.num_envs)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def _begin_episodes(self, num_envs: int) -> None:
        self._start = time.time()
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        #: Environments that the next step only resets.
        self.resets_next = np.zeros(num_envs, dtype=bool)

    def reset(self) -> VecEnvObs:
        """Reset all environments; seeds and options set before are used once."""
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError("The reset options differ between environments; a gymnasium VectorEnv takes one set for all.")
        # From one seed gymnasium counts up over the environments, just as SB3's `seed` does.
        seed = self._seeds[0]
        observations, vector_info = self.env.reset(seed=None if seed is None else int(seed), options=options or None)
        rows = len(tree_leaves(observations)[0])
        if rows != self.num_envs:
            raise ValueError(_asynchronous(self.env, rows))
        self.reset_infos = split_infos(vector_info, self.num_envs)
        self._begin_episodes(self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return tree_map(np.array, observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions, ``(n_envs, *action_shape)``, for :meth:`step_wait`."""
        space = self.env.single_action_space
        self._actions = np.asarray(actions, dtype=space.dtype)
        expected = (self.num_envs, *(space.shape or ()))
        if self._actions.shape != expected:
            raise ValueError(
                f"The actions have the shape {self._actions.shape}; they must be one for each environment, {expected}."
            )

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments; see the module's docstring for ends of episodes."""
        observations, rewards, terminated, truncated, vector_info = self.env.step(self._actions)
        # A copy, because a vectorised environment may write its next step into the same buffer.
        observations = tree_map(np.array, observations)
        infos = split_infos(vector_info, self.num_envs)
        rewards, terminated, truncated = np.asarray(rewards), np.asarray(terminated), np.asarray(truncated)
        dones = terminated | truncated
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            resetting, self.resets_next = self.resets_next, dones
            dones = dones & ~resetting
            rewards = np.where(resetting, 0.0, rewards)
            for i in _where(resetting):
                self.reset_infos[i], infos[i] = infos[i], {ONLY_RESET: True}
            self._lengths -= resetting
        self._returns += rewards
        self._lengths += 1
        if dones.any() or "final_obs" in vector_info:
            self._end_episodes(observations, dones, infos)
        for info, cut in zip(infos, (dones & truncated & ~terminated).tolist(), strict=True):
            info["TimeLimit.truncated"] = cut
        return observations, rewards.astype(np.float32), dones, infos

    def _end_episodes(self, observations: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Complete the infos of episodes that ended.

        :param observations: those of environments that are reset here are replaced by their first ones
        """
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            self._take_final(infos, dones)
        else:
            for i in _where(dones):
                infos[i]["terminal_observation"] = _row(observations, i)
            if self.autoreset_mode is AutoresetMode.DISABLED:
                self._reset_where(dones, observations)
        self._add_statistics(dones, infos)

    def _take_final(self, infos: list[dict[str, Any]], dones: np.ndarray) -> None:
        """Where an episode ended, the info is the new episode's and contains the old one's: swap them."""
        for i, info in enumerate(infos):
            final_observation, final_info = info.pop("final_obs", None), info.pop("final_info", None)
            if dones[i]:
                if final_observation is None:
                    raise RuntimeError(
                        f"{self.env} says that it resets in the same step, but environment {i} ended an episode "
                        "without 'final_obs' in its info. Choose another autoreset_mode for it."
                    )
                self.reset_infos[i] = dict(info)
                if final_info is not None:
                    # Of what stands beside the new episode's info, gymnasium's statistics alone are of the old one.
                    info = {**({"episode": info["episode"]} if "episode" in info else {}), **final_info}
                infos[i] = {**info, "terminal_observation": tree_map(np.array, final_observation)}

    def _reset_where(self, dones: np.ndarray, observations: Any) -> None:
        """Reset the environments that ended, and write their first observations into ``observations``."""
        first, vector_info = self.env.reset(options={"reset_mask": dones.copy()})
        reset_infos = split_infos(vector_info, self.num_envs)
        for i in _where(dones):
            self.reset_infos[i] = reset_infos[i]

        def overwrite(array: np.ndarray, start: np.ndarray) -> None:
            array[dones] = start[dones]

        tree_map(overwrite, observations, first)

    def _add_statistics(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """Add the episode statistics that ``Monitor`` would add, and start new ones."""
        for i in _where(dones):
            seconds = round(time.time() - self._start, 6)
            episode = {"r": round(float(self._returns[i]), 6), "l": int(self._lengths[i]), "t": seconds}
            if not self.monitored:
                infos[i].setdefault("episode", episode)
        self._returns[dones] = 0.0
        self._lengths[dones] = 0

    def close(self) -> None:
        """Close the vectorised environment, with its processes if it has any."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One RGB frame per environment; None where it was not made with ``render_mode="rgb_array"``."""
        if self.render_mode != "rgb_array":
            warnings.warn(f"No frames: render_mode is {self.render_mode!r}, not 'rgb_array'.", stacklevel=2)
            return [None] * self.num_envs
        frames: Any = self.env.render()
        return list(frames)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each environment; for a natively vectorised one, its own attribute, repeated.

        :raises AttributeError: if it does not exist
        """
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            values: Sequence[Any] = [env.get_wrapper_attr(attr_name) for env in base.envs]
        elif isinstance(base, AsyncVectorEnv):
            self._require_attr(base, attr_name)
            values = base.call("get_wrapper_attr", attr_name)
        else:
            values = [getattr(base, attr_name)] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all environments; of a ``SyncVectorEnv``, of those in ``indices``."""
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            for i in self._get_indices(indices):
                base.envs[i].set_wrapper_attr(attr_name, value)
            return
        self._require_all(indices, f"set {attr_name!r}")
        if isinstance(base, AsyncVectorEnv):
            base.set_attr(attr_name, [value] * self.num_envs)
        elif not hasattr(base, attr_name):
            raise AttributeError(f"{self.env} has no attribute {attr_name!r} that could be set for all of its environments.")
        else:
            setattr(base, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of all environments; of a ``SyncVectorEnv``, of those in ``indices``.

        A natively vectorised environment is called once, and what it returns is repeated.
        """
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            methods = [base.envs[i].get_wrapper_attr(method_name) for i in self._get_indices(indices)]
            return [method(*args, **kwargs) for method in methods]
        self._require_all(indices, f"call {method_name!r}")
        if isinstance(base, AsyncVectorEnv):
            self._require_attr(base, method_name)
            return list(base.call(method_name, *args, **kwargs))
        return [getattr(base, method_name)(*args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether each environment is wrapped; always True for ``Monitor``, whose work the adapter does."""
        base = self.env.unwrapped
        if isinstance(base, AsyncVectorEnv) and wrapper_class is not Monitor:
            raise RuntimeError(
                "The environments of an AsyncVectorEnv live in other processes, so it cannot be seen whether they are "
                f"wrapped in {wrapper_class.__name__}. Use a SyncVectorEnv to ask."
            )
        envs = base.envs if isinstance(base, SyncVectorEnv) else [None] * self.num_envs
        wrapped = [wrapper_class is Monitor or (env is not None and is_wrapped(env, wrapper_class)) for env in envs]
        return [wrapped[i] for i in self._get_indices(indices)]

    def _require_attr(self, base: AsyncVectorEnv, name: str) -> None:
        """Check first: a worker process dies if asked for an attribute that it does not have."""
        if not all(base.call("has_wrapper_attr", name)):
            raise AttributeError(f"The environments inside {self.env} have no attribute {name!r}.")

    def _require_all(self, indices: VecEnvIndices, action: str) -> None:
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(
                f"Cannot {action} for environments {indices} only: {self.env} acts on all of its {self.num_envs} "
                "environments at once. Leave out indices, or use a SyncVectorEnv."
            )


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """How a vectorised environment resets the environments in it.

    :param env: with ``autoreset_mode`` as an attribute or in its metadata
    :raises ValueError: if it does not say, or says something unknown
    """
    # Some environments write into the metadata shared by all classes, so an entry there may be another environment's.
    metadata = {} if env.metadata is VectorEnv.metadata else env.metadata
    mode = getattr(env.unwrapped, "autoreset_mode", None) or metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        allowed = ", ".join(f"AutoresetMode.{known.name}" for known in AutoresetMode)
        raise ValueError(
            f"{env} does not say how it resets: its autoreset_mode is {mode!r}. Set "
            f"env.metadata = {{'autoreset_mode': ...}} to one of {allowed} (from gymnasium.vector)."
        ) from None


def split_infos(vector_info: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """One info dictionary per environment out of gymnasium's dictionary of arrays.

    :param vector_info: ``key -> (n_envs, ...)``, with a mask ``_key`` where not every environment has it; dictionaries
        nest, and a value that is not one per environment belongs to all of them
    :param num_envs: number of environments
    """
    columns: dict[str, Sequence[Any]] = {}
    partial: list[tuple[str, Sequence[Any], list[int]]] = []
    complete: dict[int, bool] = {}
    for key, value in vector_info.items():
        if key.startswith("_") and key[1:] in vector_info:
            continue
        if isinstance(value, dict):
            rows: Sequence[Any] = split_infos(value, num_envs)
        elif isinstance(value, np.ndarray) and value.shape[:1] == (num_envs,):
            # Rows of a copy, because the environment may write its next step into the same array.
            rows = list(value if value.ndim == 1 else value.copy())
        else:
            rows = [value] * num_envs
        mask = vector_info.get(f"_{key}")
        if id(mask) not in complete:  # often one mask for all keys
            complete[id(mask)] = mask is None or bool(np.all(mask))
        if complete[id(mask)]:
            columns[key] = rows
        else:
            partial.append((key, rows, _where(np.asarray(mask))))
    infos = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] or [
        {} for _ in range(num_envs)
    ]
    for key, rows, owners in partial:
        for i in owners:
            infos[i][key] = rows[i]
    return infos


def _check_spaces(env: VectorEnv) -> None:
    observation, action = env.single_observation_space, env.single_action_space
    leaves = observation.spaces.values() if isinstance(observation, spaces.Dict) else [observation]
    if not all(isinstance(space, ARRAY_SPACES) for space in leaves):
        raise ValueError(
            f"Observation space {observation} is not supported: it must be Box, Discrete, MultiDiscrete, MultiBinary, "
            "or a Dict of these without nesting (gymnasium.wrappers.FlattenObservation turns others into a Box)."
        )
    if not isinstance(action, ARRAY_SPACES):
        raise ValueError(f"Action space {action} is not supported: use Box, Discrete, MultiDiscrete or MultiBinary.")
    # Gymnasium requires the space of all environments' actions; some (envpool) give that of one. Both take the same actions,
    # one per environment.
    together, single = env.action_space.shape or (), action.shape or ()
    if together != single and together[:1] != (env.num_envs,):
        raise ValueError(_asynchronous(env, together[0] if together else 0))
    config = getattr(env.unwrapped, "config", None)
    at_a_time = config.get("batch_size") if isinstance(config, dict) else None
    if at_a_time not in (None, 0, env.num_envs):
        raise ValueError(_asynchronous(env, at_a_time))


def _asynchronous(env: VectorEnv, count: int) -> str:
    return (
        f"{env} steps {count} of its {env.num_envs} environments at a time. Make it so that every step is a step of every "
        "environment: ale_py's AtariVectorEnv with batch_size=0, envpool's with a batch_size of num_envs or without one."
    )


def _where(mask: np.ndarray) -> list[int]:
    return [int(i) for i in np.flatnonzero(mask)]


def _row(observations: Any, index: int) -> Any:
    return tree_map(lambda array: np.array(array[index]), observations)
