"""One Atari game with the steps and resets of SB3's ``AtariWrapper``, played by ale_py's C++ in a thread of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from ale_py import Action, ALEInterface, ALEVectorInterface, LoggerMode
from ale_py.roms import get_rom_path

from rlspo.envs.atari.rules import Rules

#: A number of frames that no episode reaches; the limit is kept here, because the interface would skip the last picture.
_NEVER = 2**30
_NOOP, _FIRE, _SECOND = 0, 1, 2
_FULL_STRENGTH = np.ones(1, np.float32)


@dataclass
class Seen:
    """What a step gave.

    :param picture: the screen, ``(height, width, 3)`` bytes, of the last two frames the brighter
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


def screen_and_start(rules: Rules) -> tuple[tuple[int, int], int]:
    """Height and width of a game's screen, in pixels, and the number of its first frame: of some the emulator plays the
    beginning."""
    ALEInterface.setLoggerMode(LoggerMode.Error)  # no banner
    ale, rom = ALEInterface(), get_rom_path(rules.game)
    assert rom is not None
    ale.loadROM(rom)
    ale.reset_game()
    return ale.getScreenDims(), ale.getEpisodeFrameNumber()


class Game:
    """A game that is told an action with :meth:`send` and asked for the outcome with :meth:`receive`; it plays in between.

    Follows SB3's ``NoopResetEnv``, ``MaxAndSkipEnv``, ``EpisodicLifeEnv`` and ``FireResetEnv``, one in the other.

    :param rules: how it is played
    :param screen: height and width, see :func:`screen_and_start`
    :raises ValueError: for a game whose first actions are not what the wrappers take them for
    """

    def __init__(self, rules: Rules, screen: tuple[int, int]) -> None:
        self.rules, self.screen = rules, screen
        self._ale = self._new_interface()
        self.actions: list[Action] = self._ale.get_action_set()
        self._fires = Action.FIRE in self.actions
        fires_second = len(self.actions) > _SECOND and self.actions[_FIRE] == Action.FIRE
        if self.actions[_NOOP] != Action.NOOP or (self._fires and not fires_second):
            raise ValueError(
                f"The first actions of {rules.game} are {', '.join(action.name for action in self.actions[:2])}; SB3's "
                "wrappers, which are followed here, take them for NOOP and FIRE, and refuse the game too. Give "
                "full_action_space=True."
            )
        self._lives, self._game_over, self._sent = 0, True, False
        #: The latest outcome; None before the first reset.
        self.seen: Seen | None = None
        #: Rewards of the game so far.
        self.score = 0.0

    def _new_interface(self) -> ALEVectorInterface:
        height, width = self.screen
        rom: Any = get_rom_path(self.rules.game)
        return ALEVectorInterface(
            rom_path=rom,
            num_envs=1,
            frame_skip=self.rules.frame_skip,
            stack_num=1,
            img_height=height,  # as it is: SB3 makes it grey first, and small after that
            img_width=width,
            grayscale=False,
            maxpool=self.rules.frame_skip > 1,
            noop_max=self.rules.noop_max,
            use_fire_reset=False,
            episodic_life=False,  # would start the game anew
            life_loss_info=False,
            reward_clipping=False,
            max_episode_steps=_NEVER,
            repeat_action_probability=self.rules.repeat_action_probability,
            full_action_space=self.rules.full_action_space,
            batch_size=0,
            num_threads=1,
            thread_affinity_offset=-1,
            autoreset_mode="NextStep",
        )

    def send(self, action: int) -> None:
        """Begin a step."""
        self._sent = True
        self._ale.send(np.array([action]), _FULL_STRENGTH)

    def receive(self) -> Seen:
        """Wait for the end of the step."""
        outcome = self._ale.recv()
        self._sent = False
        seen = self._played(*outcome)
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
        goes_on = self.rules.terminal_on_life_loss and not self._game_over and not self._sent
        if seed is None and goes_on:
            seen = self.step(_NOOP)
            if not seen.game_over:
                return seen
        return self._restart(seed)

    def _restart(self, seed: int | None) -> Seen:
        if self._sent:  # a step was interrupted: whether its outcome is still to come is not known
            self._ale, self._sent = self._new_interface(), False
        pictures, info = self._ale.reset(np.zeros(1, int), np.array([-1 if seed is None else _emulators(seed)]))
        seen = self._played(pictures, np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), info)
        # The next reset begins anew, too, as SB3's does until a step is taken.
        self.score, self._lives, self._game_over, self.seen = 0.0, seen.lives, True, seen
        return seen


def _emulators(seed: int) -> int:
    """A seed that the emulator can take, which has 31 bits."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) & 0x7FFFFFFF
