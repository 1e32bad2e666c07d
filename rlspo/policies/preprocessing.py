"""From the environment's observation to the network's input: bytes to [0, 1], integers to one-hot, numbers normalised."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn
from torch.nn import functional as F

from rlspo.common.outliers import ordinary, tell, without_outliers
from rlspo.common.spaces import start_of
from rlspo.common.trees import ArrayTree, Tensor


class RunningNormalizer(nn.Module):
    """Running mean and variance of one vector-valued input, as buffers: they are saved and loaded with the weights.

    Statistics change only in :meth:`update` (once per rollout), never while acting, learning or evaluating.

    :param shape: of one observation
    :param clip: normalised values are clipped to [-clip, clip]
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...], clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        #: Whether outliers were spoken of.
        self.told = False
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        """Normalise ``(B, *shape)``."""
        return ((observations - self.mean) * torch.rsqrt(self.variance + 1e-8)).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, observations: np.ndarray) -> None:
        """Merge a batch ``(N, *shape)``, without its outliers, into the statistics (Chan et al. 1979, in float64)."""
        with np.errstate(all="ignore"):  # what is not finite is left out below
            batch_mean = observations.mean(axis=0, dtype=np.float64)
            batch_variance = observations.var(axis=0, dtype=np.float64)
        count, added = float(self.count), len(observations)
        total = count + added
        mean, variance = (tensor.cpu().numpy().astype(np.float64) for tensor in (self.mean, self.variance))
        spread = np.sqrt(variance) if count else np.zeros_like(variance)
        if not ordinary(batch_mean, batch_variance, added, mean, spread):
            kept, left_out = without_outliers(observations, mean, spread, count)
            if left_out:
                batch_mean, batch_variance = kept.mean(axis=0), kept.var(axis=0)
                if not self.told:
                    tell("observations", left_out)
                    self.told = True
        delta = batch_mean - mean
        squares = variance * count + batch_variance * added + delta**2 * count * added / total
        self.mean.copy_(torch.as_tensor(mean + delta * added / total))
        self.variance.copy_(torch.as_tensor(squares / total))
        self.count.fill_(total)


class SpaceInput(nn.Module):
    """Preprocess one (not Dict) space, with the arithmetic of SB3's ``preprocess_obs``.

    :param space: Box, Discrete, MultiDiscrete or MultiBinary
    :param normalize_images: divide byte images by 255
    :param normalize: keep running statistics of Box observations that are not images, and normalise by them
    :param clip: see :class:`RunningNormalizer`
    """

    def __init__(self, space: spaces.Space, normalize_images: bool, normalize: bool, clip: float) -> None:
        super().__init__()
        image = isinstance(space, spaces.Box) and is_image_space(space)
        self.scale = 1 / 255.0 if image and normalize_images else 1.0
        self.sizes: tuple[int, ...] = ()
        self.start: Tensor | None
        if isinstance(space, spaces.Discrete):
            self.sizes = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete):
            self.sizes = tuple(int(n) for n in space.nvec)
        start = np.reshape(start_of(space), -1)
        # Choices become one-hot from 0 on. Not in the state, which stays SB3's.
        self.register_buffer("start", torch.as_tensor(start) if self.sizes and start.any() else None, persistent=False)
        vector = isinstance(space, spaces.Box) and not image
        self.normalizer = RunningNormalizer(space.shape or (), clip) if normalize and vector else None
        self.continuous = isinstance(space, spaces.Box)

    def forward(self, observations: Tensor) -> Tensor:
        """``(B, *space.shape)`` to float32 network input."""
        if self.sizes:
            columns = observations.long().reshape(observations.shape[0], -1)
            if self.start is not None:
                columns = columns - self.start
            if len(set(self.sizes)) == 1:
                # All columns at once: a cube has 54 of them.
                return F.one_hot(columns, self.sizes[0]).float().flatten(1)
            return torch.cat([F.one_hot(columns[:, i], size).float() for i, size in enumerate(self.sizes)], dim=-1)
        inputs = observations.float()
        if self.normalizer is not None:
            return self.normalizer(inputs)
        return inputs / 255.0 if self.scale != 1.0 else inputs


class Preprocessing(nn.Module):
    """:class:`SpaceInput` for a whole observation space, a Dict space key by key.

    :param space: of the environment
    :param normalize_images: see :class:`SpaceInput`
    :param normalize: see :class:`SpaceInput`
    :param clip: see :class:`RunningNormalizer`
    """

    #: Whether inputs are dictionaries.
    keyed = False

    def __init__(self, space: spaces.Space, normalize_images: bool, normalize: bool, clip: float) -> None:
        super().__init__()
        self.nested = isinstance(space, spaces.Dict)
        self.keyed = self.keyed or self.nested
        parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
        self.parts = nn.ModuleDict({key: SpaceInput(part, normalize_images, normalize, clip) for key, part in parts.items()})

    def forward(self, observations: Any) -> Any:
        """Observations as the environment gives them, to network inputs of the same nesting."""
        if self.nested:
            return {key: part(observations[key]) for key, part in self.parts.items()}
        return self.parts["observation"](observations)

    @property
    def normalizes(self) -> bool:
        """Whether any input has running statistics."""
        return any(isinstance(part.normalizer, RunningNormalizer) for part in self.parts.values())

    def update(self, observations: ArrayTree) -> None:
        """Merge a rollout's observations, ``(N, *obs_shape)``, into the running statistics."""
        for key, part in self.parts.items():
            if isinstance(part.normalizer, RunningNormalizer):
                part.normalizer.update(observations[key] if isinstance(observations, dict) else observations)

    def continuous_keys(self) -> list[str]:
        """The keys whose inputs are continuous (Box); ``["observation"]`` or nothing where the space is not a Dict."""
        return [key for key, part in self.parts.items() if part.continuous]
