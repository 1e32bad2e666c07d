"""The adversary of one policy: which inputs it may change, by how much, within which bounds, and how it searches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rlspo.adversary.ball import NORMS, Ball
from rlspo.adversary.objectives import Objective
from rlspo.adversary.solvers import SOLVERS, Solver
from rlspo.common.errors import check_choice, shown
from rlspo.common.gradients import searching_inputs
from rlspo.common.sequences import MEMORY
from rlspo.common.spaces import has_images
from rlspo.common.trees import Tensor, detach, tree_leaves, tree_map
from rlspo.policies.preprocessing import Preprocessing


class Perturbation:
    """``perturb(objective, inputs, radius, noise) -> inputs'`` for the inputs of one policy.

    :param preprocess: of the policy; its output is what is perturbed
    :param observation_space: of the environment
    :param solver: the search
    :param norm: ``"linf"`` or ``"l2"``, see :class:`~rlspo.adversary.Ball`
    :param clip_to_space: keep perturbed inputs within the bounds of the observation space; those of images always are
    :param keys: of a Dict observation space, which to perturb; None: all continuous ones
    :param device: of what is perturbed
    :raises TypeError: where the observation space has nothing continuous
    :raises ValueError: for keys that do not exist or are not continuous
    """

    def __init__(
        self,
        preprocess: Preprocessing,
        observation_space: spaces.Space,
        solver: Solver,
        norm: str = "linf",
        clip_to_space: bool = False,
        keys: list[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.preprocess = preprocess
        self.solver = solver
        self.ball_class = NORMS[check_choice("norm", norm, tuple(NORMS))]
        self.keys = _chosen_keys(preprocess, observation_space, keys)
        space = observation_space
        parts: dict[str, Any] = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        self._clipped = {key for key in self.keys if clip_to_space or has_images(parts[key])}
        self._bounds = {key: _bounds_of(parts[key], key in self._clipped, device) for key in self.keys}

    def ball(self, radius: Tensor) -> Ball:
        """The ball of this radius, with the bounds in units of the network input where they are asked for."""
        if not self._clipped:
            return self.ball_class(radius)

        def of_input(key: str, bound: Tensor) -> Tensor:
            return self.preprocess.parts[key](bound) if key in self._clipped else bound

        low, high = ({key: of_input(key, pair[side]) for key, pair in self._bounds.items()} for side in (0, 1))
        if not self.preprocess.keyed:
            return self.ball_class(radius, low["observation"], high["observation"])
        return self.ball_class(radius, low, high)

    def draw(self, inputs: Any, generator: torch.Generator) -> Any:
        """The random numbers that one call needs, for a batch shaped like ``inputs``."""
        part = {key: inputs[key] for key in self.keys} if isinstance(inputs, dict) else inputs
        return self.solver.draw(self.ball_class(torch.ones(())), part, generator)

    def __call__(self, objective: Objective, inputs: Any, radius: Tensor, noise: Any) -> Any:
        """The inputs that maximise ``objective``, detached.

        :param objective: of complete inputs, ``(B,)``
        :param inputs: clean network inputs, ``(B, *shape)`` or a dictionary of these
        :param radius: a tensor without dimensions
        :param noise: from :meth:`draw`
        """
        ball = self.ball(radius)
        with torch.no_grad(), searching_inputs():
            if not isinstance(inputs, dict):
                return detach(self.solver(objective, inputs, ball, noise))
            part = {key: inputs[key] for key in self.keys}
            if MEMORY in inputs:
                objective = _of_sequences(objective, len(inputs[MEMORY]))
            found = self.solver(lambda changed: objective({**inputs, **changed}), part, ball, noise)
            return {**inputs, **detach(found)}

    def try_out(self, inputs: Any) -> None:
        """Search once with a solver of a user's own: mistakes in it should show before training. Ours are not tried.

        :param inputs: a batch of network inputs
        :raises ValueError: for a solver whose result is not of the form of its inputs, or lies outside of the ball
        """
        if type(self.solver) in SOLVERS.values():
            return
        part = {key: inputs[key] for key in self.keys} if isinstance(inputs, dict) else inputs
        device = tree_leaves(part)[0].device
        ball = self.ball(torch.tensor(0.1, device=device))
        noise = self.draw(inputs, torch.Generator(device).manual_seed(0))
        found = self.solver(lambda x: sum(leaf.flatten(1).sum(dim=1) for leaf in tree_leaves(x)), part, ball, noise)
        if _form(found) != _form(part):
            raise ValueError(
                f"The solver {self.solver} returned {_form(found)}; it must return perturbed inputs, {_form(part)}."
            )
        nearest = ball.project(found, part)
        if any(not torch.allclose(*pair, atol=1e-4) for pair in zip(tree_leaves(found), tree_leaves(nearest), strict=True)):
            raise ValueError(f"The solver {self.solver} left the ball; let it end with ball.project(inputs, clean).")


def _of_sequences(objective: Objective, count: int) -> Objective:
    """The mean over each of ``count`` sequences at all of its steps: with memory, what is shown at one step has its effect on
    later ones, so a solver that compares perturbations has to compare whole sequences."""

    def mean_of_sequence(inputs: Any) -> Tensor:
        steps = objective(inputs).reshape(-1, count)
        return steps.mean(0, keepdim=True).expand(steps.shape).reshape(-1)

    return mean_of_sequence


def _form(tree: Any) -> Any:
    """Shapes of tensors, for comparison and for messages."""
    return tree_map(lambda leaf: f"a tensor of {tuple(leaf.shape)}" if torch.is_tensor(leaf) else shown(leaf), tree)


def _chosen_keys(preprocess: Preprocessing, space: spaces.Space, keys: list[str] | None) -> list[str]:
    continuous = preprocess.continuous_keys()
    if not continuous:
        raise TypeError(
            f"The observation space {space} has no continuous (Box) part whose values an adversary could shift. Use "
            "epsilon=0 (plain PPO), or an environment with Box observations."
        )
    if keys is not None and (isinstance(keys, str) or not keys):
        raise ValueError(f"adversary_keys is {keys!r}; it must be a list with some of {continuous}, or None for all of these.")
    unknown = [key for key in keys or [] if key not in continuous]
    if unknown:
        raise ValueError(f"adversary_keys names {unknown}; the continuous keys of the observation are {continuous}.")
    return keys or continuous


def _bounds_of(space: Any, bounded: bool, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds in the space's own units, shaped ``(1, *shape)`` for broadcasting over a batch; infinite ones
    where it is not ``bounded``."""
    sides = (space.low, space.high) if bounded else (np.full(space.shape, -np.inf), np.full(space.shape, np.inf))
    low, high = (torch.as_tensor(side.astype(np.float32), device=device)[None] for side in sides)
    return low, high
