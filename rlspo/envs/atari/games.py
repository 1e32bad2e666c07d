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
from rlspo.envs.arguments import flag
from rlspo.envs.atari.rules import rules_of
from rlspo.envs.together import StepsTogether

if TYPE_CHECKING:
    from rlspo.envs.atari.game import Game, Seen

#: What an info tells of a game, as ale_py's environments do.
_INFO = ("lives", "episode_frame_number", "frame_number")


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
    games = AtariGames(env_id, n_envs, frame_stack, threads, **(wrapper_kwargs or {}), **(env_kwargs or {}))
    env = GymnasiumVecEnv(games, monitored=True)
    env.seed(seed)
    env.action_space.seed(seed)
    return env


class AtariGames(StepsTogether):
    """Copies of a game of the ALE, played together, with the pipeline of SB3's ``AtariWrapper`` and ``VecFrameStack``.

    Observations, rewards, ends, infos, episode statistics and final observations are those of SB3's, to the last bit, except:
    a game begins with up to ``noop_max - 1`` frames without action, SB3's with 1 to ``noop_max``; where the game itself ends,
    the final observation may show an earlier frame of the last step; and random numbers are others.

    :param env_id: of a game whose observations are pictures
    :param num_envs: number of copies
    :param frame_stack: pictures in an observation, the newest last
    :param threads: copies that play at the same time; None: all, as the cores allow
    :param noop_max: see above; 0 for none
    :param frame_skip: frames that an action is repeated for; an observation shows the brighter pixels of the last two
    :param screen_size: of the square pictures, in pixels
    :param terminal_on_life_loss: a lost life ends the episode, and the next one goes on with the game
    :param clip_reward: rewards are their signs
    :param action_repeat_probability: of repeating the last action in a frame (sticky actions)
    :param render_mode: ``"rgb_array"``: :meth:`render` gives the screens
    :param env_kwargs: of the game: ``repeat_action_probability``, ``full_action_space``, ``max_num_frames_per_episode``
    :raises TypeError: for other arguments
    :raises ValueError: for values that are not allowed, and for environments that are not games of the ALE
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        frame_stack: int = 4,
        threads: int | None = None,
        *,
        noop_max: int = 30,
        frame_skip: int = 4,
        screen_size: int = 84,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.0,
        render_mode: str | None = None,
        **env_kwargs: Any,
    ) -> None:
        try:
            from rlspo.envs.atari.game import Game
        except ImportError as error:
            raise gym.error.DependencyNotInstalled(
                "Atari games need ale_py and OpenCV: pip install ale-py opencv-python-headless"
            ) from error
        side = check_count("screen_size", screen_size)
        self.num_envs = check_count("num_envs", num_envs)
        self.threads = num_envs if threads is None else min(check_count("threads", threads), num_envs)
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is {shown(render_mode)}; it must be None or 'rgb_array'; there are many screens.")
        rules = rules_of(env_id, env_kwargs, noop_max, frame_skip, terminal_on_life_loss, action_repeat_probability)
        self.spec, self.render_mode, self.clip_reward = gym.spec(env_id), render_mode, flag("clip_reward", clip_reward)
        self.games = [Game(rules) for _ in range(num_envs)]
        self.metadata = {"render_modes": ["rgb_array"], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(0, 255, (check_count("frame_stack", frame_stack), side, side), np.uint8)
        self.single_action_space = Discrete(len(self.games[0].actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._stacks = np.zeros(self.observation_space.shape or (), np.uint8)
        self._start: float | None = None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode of each copy; after a lost life it goes on with the game, unless a seed is given.

        :param seed: of the first copy, the others count up; or one for each
        :param options: none are known
        """
        seeds = self.seeds(seed)
        self._start = time.time()
        for index, game in enumerate(self.games):
            self._begin(index, game.reset(seeds[index]))
        return self._stacks.copy(), _columns([game.seen for game in self.games])

    def _begin(self, index: int, seen: Seen) -> None:
        """Start an observation with the first picture."""
        self._stacks[index] = 0
        seen.draw(self._stacks[index, -1])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all copies; those whose episodes end are reset in the same step.

        :param actions: ``(num_envs,)``, whole numbers below the number of actions
        :raises ValueError: for others
        """
        seen = self._play(self._checked(actions))
        rewards = np.array([one.reward for one in seen])
        terminated = np.array([one.terminated for one in seen])
        truncated = np.array([one.truncated for one in seen])
        ended = np.flatnonzero(terminated | truncated).tolist()
        infos = self._infos(seen, ended) if ended else _columns(seen)
        return self._stacks.copy(), np.sign(rewards) if self.clip_reward else rewards, terminated, truncated, infos

    def _checked(self, actions: np.ndarray) -> list[int]:
        if self._start is None:
            raise gym.error.ResetNeeded("Call reset() before step().")
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
            seconds = round(time.time() - (self._start or 0), 6)
            info["episode"] = {"r": round(game.score, 6), "l": seen.episode_frame_number, "t": seconds}
        return info

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        self.games.clear()

    def render(self) -> tuple[np.ndarray, ...]:
        """The screens, each ``(210, 160, 3)`` bytes."""
        return tuple(game.seen.picture for game in self.games)


def _columns(outcomes: list[Seen]) -> dict[str, Any]:
    """Infos that every copy has, as arrays."""
    everyone = np.ones(len(outcomes), bool)
    columns = {name: np.array([getattr(one, name) for one in outcomes]) for name in _INFO}
    return {**columns, **{f"_{name}": everyone for name in _INFO}}
