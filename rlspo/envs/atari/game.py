"""One Atari game with the steps and resets of SB3's ``AtariWrapper``, played by ale_py's C++ in a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from ale_py import Action, ALEVectorInterface
from ale_py.roms import get_rom_path

from rlspo.envs.atari.rules import Rules

#: A number of frames that no episode reaches; the limit is kept here, because the interface would skip the last picture.
_NEVER = 2**30
_NOOP, _FIRE, _SECOND = 0, 1, 2
_FULL_STRENGTH = np.ones(1, np.float32)


@dataclass
class Seen:
    """What a step gave.

    :param picture: ``(210, 160, 3)`` bytes, the brighter of the last two frames
    :param reward: not clipped
    :param terminated: by the end of the game, or by a lost life where this counts
    :param truncated: by the limit of frames
    :param game_over: whether the game itself has ended, by its rules or by the limit
    """

    picture: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    game_over: bool
    lives: int
    episode_frame_number: int
    frame_number: int

    def draw(self, out: np.ndarray) -> None:
        """Draw the picture grey and small, as SB3's ``WarpFrame``.

        :param out: ``(height, width)`` bytes
        """
        grey = cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY)
        cv2.resize(grey, out.shape[::-1], dst=out, interpolation=cv2.INTER_AREA)


class Game:
    """A game that is told an action with :meth:`send` and asked for the outcome with :meth:`receive`; it plays in between.

    Follows SB3's ``NoopResetEnv``, ``MaxAndSkipEnv``, ``EpisodicLifeEnv`` and ``FireResetEnv``, one in the other.

    :param rules: how it is played
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        rom: Any = get_rom_path(rules.game)
        self._ale = ALEVectorInterface(
            rom_path=rom,
            num_envs=1,
            frame_skip=rules.frame_skip,
            stack_num=1,
            img_height=210,  # the emulator's own size: SB3 makes it grey first, and small after that
            img_width=160,
            grayscale=False,
            maxpool=rules.frame_skip > 1,
            noop_max=rules.noop_max,
            use_fire_reset=False,
            episodic_life=False,  # would start the game anew
            life_loss_info=False,
            reward_clipping=False,
            max_episode_steps=_NEVER,
            repeat_action_probability=rules.repeat_action_probability,
            full_action_space=rules.full_action_space,
            batch_size=0,
            num_threads=1,
            thread_affinity_offset=-1,
            autoreset_mode="NextStep",
        )
        self.actions: list[Action] = self._ale.get_action_set()
        self._fires = Action.FIRE in self.actions
        self._lives, self._game_over = 0, True
        #: The latest outcome.
        self.seen: Seen
        #: Rewards of the game so far.
        self.score = 0.0

    def send(self, action: int) -> None:
        """Begin a step."""
        self._ale.send(np.array([action]), _FULL_STRENGTH)

    def receive(self) -> Seen:
        """Wait for the end of the step."""
        seen = self._played(*self._ale.recv())
        self.score += seen.reward
        self._game_over = seen.game_over
        # At 0 lives some games go on for a few frames, and end by themselves.
        if self.rules.terminal_on_life_loss and 0 < seen.lives < self._lives:
            seen.terminated = True
        self._lives, self.seen = seen.lives, seen
        return seen

    def _played(self, pictures: np.ndarray, rewards: np.ndarray, over: np.ndarray, _: np.ndarray, info: Any) -> Seen:
        frames, terminated = int(info["episode_frame_number"][0]), bool(over[0])
        truncated = 0 < self.rules.max_frames <= frames
        return Seen(
            pictures[0, 0],
            float(rewards[0]),
            terminated,
            truncated,
            terminated or truncated,
            int(info["lives"][0]),
            frames,
            int(info["frame_number"][0]),
        )

    def step(self, action: int) -> Seen:
        """A whole step."""
        self.send(action)
        return self.receive()

    def reset(self, seed: int | None = None) -> Seen:
        """Start an episode: with a new game, or after a lost life with the rest of the old one.

        :param seed: of the emulator and of the number of frames without action; None: they go on as they are
        """
        seen = self._begin(seed)
        if self._fires:  # some games stand still until then
            for action in (_FIRE, _SECOND):
                seen = self.step(action)
                if seen.terminated or seen.truncated:
                    self._begin(None)
        return seen

    def _begin(self, seed: int | None) -> Seen:
        if seed is None and not self._game_over and self.rules.terminal_on_life_loss:
            seen = self.step(_NOOP)
            if not seen.game_over:
                return seen
        return self._restart(seed)

    def _restart(self, seed: int | None) -> Seen:
        pictures, info = self._ale.reset(np.zeros(1, int), np.array([-1 if seed is None else seed]))
        seen = self._played(pictures, np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), info)
        self.score, self._lives, self._game_over, self.seen = 0.0, seen.lives, False, seen
        return seen
