"""The camera of a video: pictures of the environment, of what the agent sees, and the perturbation in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image

from rlspo.zoo.errors import UserError
from rlspo.zoo.video.layout import BACKGROUND, HIGHLIGHT, Text

_GAP = 4  # pixels between the two pictures
_EDGE = 2  # pixels around each, coloured while the environment is perturbed
_INFO_KEY = "stori"


class NoPictures(UserError):
    """The environment cannot be drawn."""


@dataclass(frozen=True)
class Snapshot:
    """The picture of one step, and text about it.

    :param image: ``(height, width, 3)``, bytes
    :param lines: text above it, besides the lines that every video has
    """

    image: np.ndarray
    lines: tuple[tuple[Text, ...], ...] = ()


class Camera(gym.Wrapper):
    """Renders an environment, and beside it what the agent sees where that differs.

    Perturbed environments have a method ``seen()``, which returns what the agent sees, ``(height, width, 3)``, and report
    the perturbation in ``info["stori"]``. Of others the observation can be shown, if it is a picture.

    :param env: with all its wrappers; a vectorised environment resets before its caller can render, so the last snapshot of
        an episode is kept
    :param both: show what the agent sees beside the true picture; None: where the environment has ``seen()``
    """

    only_watches = True

    def __init__(self, env: gym.Env, both: bool | None = None) -> None:
        super().__init__(env)
        has_seen = env.has_wrapper_attr("seen")
        self.both = has_seen if both is None else both
        self._seen: Any = env.get_wrapper_attr("seen") if has_seen else None
        self._observation: Any = None
        self._action: Any = None
        self._report: dict[str, Any] | None = None
        self._perturbed = has_seen
        self.last: Snapshot | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset, and remember what the agent sees."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        self._action, self._report = None, info.get(_INFO_KEY)
        self._perturbed |= self._report is not None
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and keep a snapshot of the last step of an episode."""
        result = self.env.step(action)
        self._observation, self._action, self._report = result[0], action, result[4].get(_INFO_KEY)
        if result[2] or result[3]:
            self.last = self.look()
        return result

    def look(self) -> Snapshot:
        """A snapshot of the environment as it is now.

        :raises NoPictures: if the environment cannot be drawn, or what the agent sees is to be shown and is not a picture
        """
        image: Any = self.env.render()
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise NoPictures(f"{self._name} gives no pictures in render mode 'rgb_array'")
        image = image[..., :3].copy()
        # Also where a wrapper drops the info of a reset: all pictures of a video have the same lines.
        lines = ((self._perturbation(self._report or {}),),) if self._perturbed else ()
        if not self.both:
            return Snapshot(image, lines)
        seen = self._seen() if self._seen is not None else picture_of(self._observation)
        if seen is None:
            raise NoPictures(
                f"--seen: what the agent sees of {self._name} is not a picture; its observation space is "
                f"{self.env.observation_space}. Leave --seen out."
            )
        marked = bool(self._report and self._report.get("perturbed"))
        shown, begins = beside(image, seen, HIGHLIGHT if marked else BACKGROUND)
        return Snapshot(shown, (*lines, (Text("what is"), Text("what the agent sees", begins / shown.shape[1]))))

    @property
    def _name(self) -> str:
        return "the environment" if self.env.spec is None else self.env.spec.id

    def _perturbation(self, report: dict[str, Any]) -> Text:
        """What was done to the environment in the last step."""
        text = f"type {report['type']}" if "type" in report else ""
        text += ", drifted" if report.get("concept") else ""
        if not report.get("perturbed"):
            return Text(text)
        executed: Any = report.get("executed_action")
        text += ", perturbed"
        if self._action is not None and np.ndim(executed) == 0 and executed != self._action:
            text += f": {self._action_name(executed)} instead of {self._action_name(self._action)}"
        return Text(text, marked=True)

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
    """An observation as a picture ``(height, width, 3)``, of a stack the newest frame; None if it is not a picture.

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
