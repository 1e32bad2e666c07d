"""The camera of a film: the last look at an episode, what the agent sees of the environment, and what perturbs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from rlspo.zoo.errors import UserError
from rlspo.zoo.video.layout import BACKGROUND, HIGHLIGHT, Words

_GAP = 4  # pixels between the two pictures
_EDGE = 2  # pixels around each, coloured while the environment is perturbed
_INFO_KEY = "stori"


class NoPictures(UserError):
    """The environment cannot be drawn."""


@dataclass(frozen=True)
class Look:
    """What there is to see at one moment.

    :param image: ``(height, width, 3)``, bytes
    :param lines: words above it, besides those that every film has
    """

    image: np.ndarray
    lines: tuple[tuple[Words, ...], ...] = ()


class Camera(gym.Wrapper):
    """Looks at an environment from outside, and through the eyes of the agent where these see something else.

    Perturbed environments tell what the agent sees by a method ``seen()``, ``(height, width, 3)``, and what was done to
    them by ``info["stori"]``. Of others the observation can be shown, if it is a picture.

    :param env: with all its wrappers; environments side by side begin the next episode before anybody can look, so the
        last look at an episode is kept
    :param both: show what the agent sees beside what is; None: where the environment has ``seen()``
    """

    only_watches = True

    def __init__(self, env: gym.Env, both: bool | None = None) -> None:
        super().__init__(env)
        tells = env.has_wrapper_attr("seen")
        self.both = tells if both is None else both
        self._seen: Any = env.get_wrapper_attr("seen") if tells else None
        self._observation: Any = None
        self._action: Any = None
        self._told: dict[str, Any] | None = None
        self._perturbed = tells
        self.last: Look | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and remember what the agent sees."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._action, self._told = None, info.get(_INFO_KEY)
        self._perturbed |= self._told is not None
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and look where that was the last step."""
        result = self.env.step(action)
        self._observation, self._action, self._told = result[0], action, result[4].get(_INFO_KEY)
        if result[2] or result[3]:
            self.last = self.look()
        return result

    def look(self) -> Look:
        """What there is to see now.

        :raises NoPictures: if the environment cannot be drawn, or what the agent sees is wanted and is no picture
        """
        image: Any = self.env.render()
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise NoPictures(f"{self._name} gives no pictures in render mode 'rgb_array'")
        image = image[..., :3].copy()
        # Also where a wrapper keeps what a reset tells to itself: all pictures of a film have the same lines.
        lines = ((self._noise(self._told or {}),),) if self._perturbed else ()
        if not self.both:
            return Look(image, lines)
        seen = self._seen() if self._seen is not None else picture_of(self._observation)
        if seen is None:
            raise NoPictures(
                f"--seen: what the agent sees of {self._name} is no picture; its observation space is "
                f"{self.env.observation_space}. Leave --seen out."
            )
        marked = bool(self._told and self._told.get("perturbed"))
        shown, begins = beside(image, seen, HIGHLIGHT if marked else BACKGROUND)
        return Look(shown, (*lines, (Words("what is"), Words("what the agent sees", begins / shown.shape[1]))))

    @property
    def _name(self) -> str:
        return "the environment" if self.env.spec is None else self.env.spec.id

    def _noise(self, told: dict[str, Any]) -> Words:
        """What was done to the environment in the last step."""
        text = f"type {told['type']}" if "type" in told else ""
        text += ", drifted" if told.get("concept") else ""
        if not told.get("perturbed"):
            return Words(text)
        executed: Any = told.get("executed_action")
        text += ", perturbed"
        if self._action is not None and np.ndim(executed) == 0 and executed != self._action:
            text += f": {self._action_name(executed)} instead of {self._action_name(self._action)}"
        return Words(text, marked=True)

    def _action_name(self, action: Any) -> str:
        if not self.env.has_wrapper_attr("get_action_meanings"):
            return str(action)
        return str(self.env.get_wrapper_attr("get_action_meanings")()[int(action)])


def beside(image: np.ndarray, seen: np.ndarray, edge: tuple[int, int, int]) -> tuple[np.ndarray, int]:
    """Two pictures side by side, the second as high as the first.

    :param image: ``(height, width, 3)``, bytes
    :param seen: ``(any, any, 3)``, bytes
    :param edge: colour around each
    :return: both, and the pixel column in which the second begins
    """
    height = image.shape[0]
    if seen.shape[0] != height:
        width = max(1, round(seen.shape[1] * height / seen.shape[0]))
        sharp = height % seen.shape[0] == 0
        resized = Image.fromarray(seen).resize(
            (width, height), Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC
        )
        seen = np.asarray(resized)
    begins = image.shape[1] + 2 * _EDGE + _GAP
    both = np.empty((height + 2 * _EDGE, begins + seen.shape[1] + 2 * _EDGE, 3), np.uint8)
    both[:] = edge
    both[:, begins - _GAP : begins] = BACKGROUND
    both[_EDGE:-_EDGE, _EDGE : _EDGE + image.shape[1]] = image
    both[_EDGE:-_EDGE, begins + _EDGE : -_EDGE] = seen
    return both, begins


def picture_of(observation: Any) -> np.ndarray | None:
    """An observation as a picture ``(height, width, 3)``, of a stack the newest; None if it is none.

    :param observation: bytes, ``(height, width)`` or with the channels or the stack before or behind

    >>> picture_of(np.zeros((4, 84, 84), np.uint8)).shape
    (84, 84, 3)
    """
    if not isinstance(observation, np.ndarray) or observation.dtype != np.uint8 or observation.ndim not in (2, 3):
        return None
    if observation.ndim == 2:
        observation = observation[..., None]
    if observation.shape[0] < observation.shape[2]:
        observation = np.moveaxis(observation, 0, 2)
    if observation.shape[2] % 3 == 0:
        return observation[..., -3:].copy()
    return observation[..., -1:].repeat(3, axis=2)
