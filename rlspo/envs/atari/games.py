"""Copies of an Atari game as one vectorised environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlspo.common.errors import check_count, shown
from rlspo.common.vector_env import GymnasiumVecEnv
from rlspo.envs.atari.rules import rules_of
from rlspo.envs.together import StepsTogether

if TYPE_CHECKING:
    from rlspo.envs.atari.game import Game, Seen

#: What an info tells of a game, as ale_py's environments do.
_INFO = ("lives", "episode_frame_number", "frame_number")
_INTERRUPTED = "The last step was interrupted, and some games have gone on without the others. Call reset() first."


def make_atari_vec_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    *,
    frame_stack: int = 4,
    threads: int | None = None,
    wrapper_kwargs: dict[str, Any] | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> GymnasiumVecEnv:
    """Copies of a game for an agent, in place of SB3's ``VecFrameStack(make_atari_env(env_id, n_envs, seed), 4)``.

    >>> env = make_atari_vec_env("BreakoutNoFrameskip-v4", n_envs=2, seed=0)
    >>> env.reset().shape
    (2, 4, 84, 84)

    An id's own frame skip is replaced by the wrapper's: ``ALE/Breakout-v5`` is what SB3's functions make of it with
    ``env_kwargs={"frameskip": 1}``.

    :param env_id: such as ``ALE/Breakout-v5`` (sticky actions) or ``BreakoutNoFrameskip-v4`` (none)
    :param n_envs: number of copies
    :param seed: of the first copy, the others count up
    :param frame_stack: pictures in an observation
    :param threads: copies that play at the same time; None: all, as the cores allow
    :param wrapper_kwargs: arguments of SB3's ``AtariWrapper``
    :param env_kwargs: of the game: ``repeat_action_probability``, ``full_action_space``, ``max_num_frames_per_episode``
    :return: with the same interface as SB3's; observations have the pictures first, as networks take them
    :raises TypeError: for arguments that do not exist
    :raises ValueError: for values that are not allowed, and for environments that are not games of the ALE
    """
    games = AtariGames(env_id, n_envs, frame_stack, threads, wrapper_kwargs=wrapper_kwargs, env_kwargs=env_kwargs)
    env = GymnasiumVecEnv(games, monitored=True)
    env.seed(seed)
    env.action_space.seed(seed)
    return env


class AtariGames(StepsTogether):
    """Copies of a game of the ALE, played together, with the pipeline of SB3's ``AtariWrapper`` and ``VecFrameStack``.

    Observations, rewards, ends, infos, episode statistics and final observations are those of SB3's, to the last bit, except:

    - A game begins with up to ``noop_max - 1`` frames without action, SB3's with 1 to ``noop_max``; rewards in these frames,
      which few games give, do not count in the statistics.
    - A limit of frames ends a game between two steps, not in the middle of one.
    - Where the game itself ends, the final observation may show an earlier frame of the last step.
    - Random numbers are others.

    :param env_id: of a game whose observations are pictures; its own frame skip is replaced by the wrapper's
    :param num_envs: number of copies
    :param frame_stack: pictures in an observation, the newest last
    :param threads: copies that play at the same time; None: all, as the cores allow
    :param wrapper_kwargs: arguments of SB3's ``AtariWrapper``
    :param env_kwargs: of the game: ``repeat_action_probability``, ``full_action_space``, ``max_num_frames_per_episode``
    :param render_mode: ``"rgb_array"``: :meth:`render` gives the screens
    :raises TypeError: for arguments that do not exist
    :raises ValueError: for values that are not allowed, and for environments that are not games of the ALE
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        frame_stack: int = 4,
        threads: int | None = None,
        *,
        wrapper_kwargs: dict[str, Any] | None = None,
        env_kwargs: dict[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        try:
            from rlspo.envs.atari.game import Game, screen_and_start
        except ImportError as error:
            raise gym.error.DependencyNotInstalled(
                "Atari games need ale_py and OpenCV: pip install ale-py opencv-python-headless"
            ) from error
        self.num_envs = check_count("num_envs", num_envs)
        self.threads = num_envs if threads is None else min(check_count("threads", threads), num_envs)
        check_count("frame_stack", frame_stack)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {shown(render_mode)}; it must be None or 'rgb_array'; there are many screens.")
        rules = rules_of(env_id, wrapper_kwargs or {}, env_kwargs or {})
        self.spec, self.render_mode, self.clip_reward = gym.spec(env_id), render_mode, rules.clip_reward
        screen, self._first_frame = screen_and_start(rules)
        self.games = [Game(rules, screen) for _ in range(num_envs)]
        self.metadata = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.SAME_STEP}
        shape = (frame_stack, rules.screen_size, rules.screen_size)
        self.single_observation_space = Box(0, 255, shape, np.uint8)
        self.single_action_space = Discrete(len(self.games[0].actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._stacks = np.zeros(self.observation_space.shape or (), np.uint8)
        self._start = 0.0
        #: Why the next step cannot be taken; empty where it can.
        self._needs_reset = "Call reset() before step()."

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode of each copy; after a lost life it goes on with the game, unless a seed is given.

        :param seed: of the first copy, the others count up; or one for each
        :param options: none are known
        :raises ValueError: for options
        """
        if options:
            raise ValueError(f"options is {shown(options)}; games know none, and all of them are reset together.")
        if self.closed:
            raise ValueError("The games have been closed; make them anew.")
        seeds = self.seeds(seed)
        self._start, self._needs_reset = time.time(), _INTERRUPTED
        begun = [game.reset(seeds[index]) for index, game in enumerate(self.games)]
        for index, seen in enumerate(begun):
            self._begin(index, seen)
        self._needs_reset = ""
        return self._stacks.copy(), _columns(begun)

    def _begin(self, index: int, seen: Seen) -> None:
        """Start an observation with the first picture."""
        self._stacks[index] = 0
        seen.draw(self._stacks[index, -1])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all copies; those whose episodes end are reset in the same step.

        :param actions: ``(num_envs,)``, whole numbers below the number of actions
        :raises ValueError: for others
        """
        given = self._checked(actions)
        self._needs_reset = _INTERRUPTED
        seen = self._play(given)
        rewards = np.array([one.reward for one in seen])
        terminated = np.array([one.terminated for one in seen])
        truncated = np.array([one.truncated for one in seen])
        ended = np.flatnonzero(terminated | truncated).tolist()
        infos = self._infos(seen, ended) if ended else _columns(seen)
        self._needs_reset = ""
        return self._stacks.copy(), np.sign(rewards) if self.clip_reward else rewards, terminated, truncated, infos

    def _checked(self, actions: np.ndarray) -> list[int]:
        if self._needs_reset:
            raise gym.error.ResetNeeded(self._needs_reset)
        given, count = np.asarray(actions), len(self.games[0].actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu" or not (0 <= given.min() <= given.max() < count):
            raise ValueError(
                f"The actions are {shown(actions)}; they must be {self.num_envs} whole numbers from 0 to {count - 1}."
            )
        return given.tolist()

    def _play(self, actions: list[int]) -> list[Seen]:
        """A step of every game, of which ``threads`` play at a time; while they do, finished pictures are drawn."""
        self._stacks[:, :-1] = self._stacks[:, 1:]
        outcomes: list[Seen] = []
        for turn in range(self.num_envs + self.threads):
            finished = turn - self.threads
            if finished >= 0:
                outcomes.append(self.games[finished].receive())
            if turn < self.num_envs:
                self.games[turn].send(actions[turn])
            if finished >= 0:
                outcomes[-1].draw(self._stacks[finished, -1])
        return outcomes

    def _infos(self, outcomes: list[Seen], ended: list[int]) -> dict[str, Any]:
        """The infos of a step in which episodes ended, which are reset here."""
        infos: dict[str, Any] = {}
        for index, (game, seen) in enumerate(zip(self.games, outcomes, strict=True)):
            if index in ended:
                last = {"final_obs": self._stacks[index].copy(), "final_info": self._final(game, seen)}
                infos = self._add_info(infos, last, index)
                seen = game.reset()
                self._begin(index, seen)
            infos = self._add_info(infos, {name: getattr(seen, name) for name in _INFO}, index)
        return infos

    def _final(self, game: Game, seen: Seen) -> dict[str, Any]:
        """The info of an episode's end, with the statistics of the game where it has ended too."""
        info: dict[str, Any] = {name: getattr(seen, name) for name in _INFO}
        if seen.game_over:
            seconds = round(time.time() - self._start, 6)
            info["episode"] = {"r": round(game.score, 6), "l": seen.episode_frame_number - self._first_frame, "t": seconds}
        return info

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        self.games.clear()
        self._needs_reset = "The games have been closed; make them anew."

    def render(self) -> tuple[np.ndarray, ...]:
        """The screens, each ``(height, width, 3)`` bytes."""
        seen = [game.seen for game in self.games]
        if not all(seen):
            raise gym.error.ResetNeeded("Call reset() before render().")
        return tuple(each.picture for each in seen if each is not None)


def _columns(outcomes: list[Seen]) -> dict[str, Any]:
    """Infos that every copy has, as arrays."""
    everyone = np.ones(len(outcomes), bool)
    columns = {name: np.array([getattr(one, name) for one in outcomes]) for name in _INFO}
    return {**columns, **{f"_{name}": everyone for name in _INFO}}
