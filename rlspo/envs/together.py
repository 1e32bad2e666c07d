"""What vectorised environments share that step their copies natively."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium.vector import VectorEnv


class StepsTogether(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Copies of one environment whose states are outside of Python."""

    def seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """A seed for each copy.

        :param seed: of the first copy, the others count up; or one for each; None: they go on with their generators
        :raises ValueError: for another number of seeds
        """
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + index for index in range(self.num_envs)]
        seeds = [*seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed lists {len(seeds)} seeds; it must be one for each of {self.num_envs} environments.")
        return seeds

    def __reduce__(self) -> Any:
        raise self._not_copied()

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise self._not_copied()

    def _not_copied(self) -> TypeError:
        return TypeError(f"{type(self).__name__} cannot be copied or pickled; make another one where it is needed.")
