"""Type 3.2: hidden parts of the screen."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from rlspo.common.errors import did_you_mean
from rlspo.envs.arguments import number, whole
from rlspo.envs.stori.effects import Effect, Moment

#: The published numbers of the crops.
CROPS = {1: "left", 2: "right", 3: "top", 4: "bottom", 5: "disc"}
#: Pixels; the published radius.
RADIUS = 75


def mode_name(given: Any, modes: dict[int, str], where: str = "mode") -> str:
    """The name of a mode, from its name or published number.

    :raises ValueError: for an unknown mode, naming the nearest
    """
    if isinstance(given, int) and not isinstance(given, bool) and given in modes:
        return modes[given]
    if isinstance(given, str) and given in modes.values():
        return given
    # Command lines and quoted values in files give numbers as text.
    if isinstance(given, str) and given.isdecimal() and int(given) in modes:
        return modes[int(given)]
    names = ", ".join(f"{number}: {name}" for number, name in modes.items())
    raise ValueError(f"{where} is {given!r}. {did_you_mean(str(given), modes.values())} Modes: {names}.")


@functools.lru_cache(8)
def _disc(height: int, width: int, channels: int) -> np.ndarray:
    """Of twice the screen's size, all bits in a disc around its middle and none elsewhere, channels side by side.

    The mask for any centre is cut out of it, a view.
    """
    rows, columns = np.arange(1 - height, height), np.arange(1 - width, width)
    inside = rows[:, None] ** 2 + columns**2 <= RADIUS**2
    return np.repeat(np.where(inside, 255, 0).astype(np.uint8), channels, axis=1)


class Crop(Effect):
    """Half of the screen is black, or everything outside of a randomly placed disc.

    :param mode: ``"left"``, ``"right"``, ``"top"``, ``"bottom"`` (the half that is hidden) or ``"disc"``; or its
        number, 1 to 5
    """

    def __init__(self, game: str, fidelity: str = "exact", mode: Any = "left") -> None:
        super().__init__(game, fidelity)
        self.mode = mode_name(mode, CROPS)

    def draw(self, now: Moment) -> None:
        if self.mode == "disc":
            self._centre: list[float] = now.random.random(2).tolist()

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if not open:
            return
        now.perturbed = True
        height, width = screen.shape[:2]
        if self.mode == "disc":
            self._keep_disc(screen)
        elif self.mode == "left":
            screen[:, : width // 2] = 0
        elif self.mode == "right":
            screen[:, width // 2 :] = 0
        elif self.mode == "top":
            screen[: height // 2] = 0
        else:
            screen[height // 2 :] = 0

    def _keep_disc(self, screen: np.ndarray) -> None:
        height, width = screen.shape[:2]
        channels = screen.shape[2] if screen.ndim == 3 else 1
        # In pixels, uniform over the screen.
        y, x = int(self._centre[0] * height), int(self._centre[1] * width)
        rows = screen.reshape(height, width * channels)
        first = (width - 1 - x) * channels
        rows &= _disc(height, width, channels)[height - 1 - y : 2 * height - 1 - y, first : first + width * channels]


class Box(Effect):
    """A randomly placed rectangle is black.

    :param height: of the rectangle, as a fraction of the screen's, above 0 and at most 1
    :param width: the same across
    """

    def __init__(self, game: str, fidelity: str = "exact", height: float = 0.3, width: float = 0.3) -> None:
        super().__init__(game, fidelity)
        self._size = np.array([number(name, size, 0, 1) for name, size in (("height", height), ("width", width))])
        if not self._size.all():
            raise ValueError(
                f"height is {height!r} and width {width!r}; both must be above 0: they are fractions of the screen."
            )

    def draw(self, now: Moment) -> None:
        self._corner = now.random.random(2) * (1 - self._size)

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if open:
            now.perturbed = True
            top, left = (self._corner * screen.shape[:2]).astype(int)
            height, width = np.ceil(self._size * screen.shape[:2]).astype(int)
            screen[top : top + height, left : left + width] = 0


class Flicker(Effect):
    """The whole screen is black."""

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if open:
            now.perturbed = True
            screen[...] = 0


class Freeze(Effect):
    """The screen is frozen: the agent gets that of the previous decision step."""

    def reset(self, now: Moment) -> None:
        self._before: dict[int, list[np.ndarray]] = {}
        self._shown: dict[int, list[np.ndarray]] = {}

    def stop(self, now: Moment) -> None:
        self.reset(now)

    def begin(self, now: Moment) -> None:
        self._before, self._shown = self._shown or self._before, {}

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        # Wrappers read several frames of a step, RGB and grey: each is replaced by the corresponding one of the previous step.
        before, shown = self._before.get(screen.ndim, []), self._shown.setdefault(screen.ndim, [])
        if open and before:
            now.perturbed = True
            screen[...] = before[min(len(shown), len(before) - 1)]
        shown.append(screen.copy())


class Blur(Effect):
    """The screen is out of focus: each pixel is the mean of the square around it.

    :param radius: half the square's side, in pixels, at least 1
    """

    def __init__(self, game: str, fidelity: str = "exact", radius: int = 3) -> None:
        super().__init__(game, fidelity)
        self.radius = whole("radius", radius, 1)

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if open:
            import cv2

            now.perturbed = True
            side = 2 * self.radius + 1
            screen[...] = cv2.blur(screen, (side, side))


class Noise(Effect):
    """Normal noise is added to each pixel and channel, rounded and clipped, the same for all frames of a decision step.

    :param sigma: its standard deviation, in the 256 levels of a pixel
    """

    def __init__(self, game: str, fidelity: str = "exact", sigma: float = 20.0) -> None:
        super().__init__(game, fidelity)
        self.sigma = number("sigma", sigma, 0)

    def draw(self, now: Moment) -> None:
        self._seed = int(now.random.integers(2**63))
        self._noise: dict[tuple[int, ...], np.ndarray] = {}

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if not open:
            return
        now.perturbed = True
        if screen.shape not in self._noise:
            normal = np.random.default_rng(self._seed).standard_normal(screen.shape, dtype=np.float32)
            self._noise[screen.shape] = normal * np.float32(self.sigma)
        screen[...] = np.clip(np.rint(screen + self._noise[screen.shape]), 0, 255)


class Quantise(Effect):
    """Pixels have few levels of brightness.

    :param levels: of each channel, 1 to 256; each level is shown as the lowest value of its range
    """

    def __init__(self, game: str, fidelity: str = "exact", levels: int = 4) -> None:
        super().__init__(game, fidelity)
        brightness = np.arange(256) * whole("levels", levels, 1, 256) // 256
        self._table = np.searchsorted(brightness, brightness).astype(np.uint8)

    def screen(self, screen: np.ndarray, open: bool, now: Moment) -> None:
        if open:
            now.perturbed = True
            screen[...] = self._table[screen]


SCREEN_EFFECTS: dict[str, type[Effect]] = {
    "crop": Crop,
    "box": Box,
    "flicker": Flicker,
    "freeze": Freeze,
    "blur": Blur,
    "noise": Noise,
    "quantise": Quantise,
}
