"""Planning by sequential Monte Carlo (Macfarlane et al. 2024, arXiv 2402.07963, algorithm 1).

From each root, N particles follow a policy in copies of the environment. Each is weighted by how much better it did than the
value function expected. Now and then, particles with small weights are replaced by copies of particles with large weights. The
remaining first actions are a sample of the improved policy

::

    q(a|s) ~ pi(a|s) E[ exp( (1/eta) sum_k gamma^k A_k ) | a_0 = a ],   A_k = r_k + gamma V(s_{k+1}) - V(s_k)     (eq. 6, 8-10)

with eta the temperature. Policy and value function may be those of any agent. With random dynamics, luck is weighted like
skill.

A branch diverges where its rewards, observations or values are NaN or infinite, for example a simulation under extreme
actions. It ends there with weight 0. If all branches of a root diverge, its value is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from rlspo.common.errors import check_count, check_fraction, check_number
from rlspo.common.trees import to_tensor, tree_leaves, tree_map
from rlspo.simulators import Simulator, States
from rlspo.spo.resampling import RESAMPLING, check_resampling, effective_sample_size

Tensor = torch.Tensor
#: Observations ``(K, *obs_shape)`` to actions ``(K, *action_shape)``.
Propose = Callable[[Any], Tensor]
#: Observations to their values, ``(K,)``.
Value = Callable[[Any], Tensor]
#: Observations to actions, and log pi(a|s) minus the log-probability with which they were drawn, ``(K,)``.
ProposeRoot = Callable[[Any], tuple[Tensor, Tensor]]


class Search(NamedTuple):
    """The result of a search at each of ``B`` roots.

    :param actions: first actions of the remaining particles, ``(B, N, *action_shape)``
    :param weights: their weights, ``(B, N)``; each row sums to 1
    :param advantages: sum of gamma^k A_k of each particle up to the first resampling, as drawn from the policy, ``(B, N)``
    :param corrections: log pi minus the log-probability with which the first actions were drawn, ``(B, N)``
    :param values: of the roots when acting by search: V plus the weighted advantage of the whole paths, ``(B,)``; NaN where
        all branches diverged
    :param diagnostics: by name, for each depth, ``(depth,)``: means over the roots
    :param model_steps: number of simulator steps, a scalar
    """

    actions: Tensor
    weights: Tensor
    advantages: Tensor
    corrections: Tensor
    values: Tensor
    diagnostics: dict[str, Tensor]
    model_steps: Tensor

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """An action for each root, drawn with the weights, ``(B, *action_shape)``."""
        return self._of(torch.multinomial(self.weights, 1, generator=generator).squeeze(-1))

    def mean(self) -> Tensor:
        """The weighted mean of the actions, ``(B, *action_shape)``: for Box actions."""
        weights = self.weights.reshape(*self.weights.shape, *[1] * (self.actions.dim() - 2))
        return (weights * self.actions).sum(dim=1)

    def best(self) -> Tensor:
        """The action with the largest weight, summed over equal actions, ``(B, *action_shape)``."""
        flat = self.actions.reshape(*self.weights.shape, -1)
        same = (flat.unsqueeze(2) == flat.unsqueeze(1)).all(dim=-1)
        return self._of((same * self.weights.unsqueeze(1)).sum(dim=-1).argmax(dim=-1))

    def _of(self, index: Tensor) -> Tensor:
        return self.actions[torch.arange(len(index), device=index.device), index]


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search.

    :param n_particles: N at each root; more gives a better sample of q (8 to 1024)
    :param depth: steps to look ahead; more sees farther, needs more particles, and trusts V less (2 to 16)
    :param temperature: eta, in units of the value: towards 0 the best path gets all the weight, towards infinity q is pi
    :param gamma: discount factor that V was trained with
    :param resample_period: resample after every so many steps, ``depth`` or more for never; None: by ``ess_threshold``
    :param ess_threshold: resample a root whose effective sample size is below this share of N, in (0, 1]; None: by
        ``resample_period``. With both None nothing is resampled, and the weights are those of whole paths
    :param resampling: ``"systematic"`` (least noise), ``"residual"`` or ``"multinomial"`` (as published)
    :param as_published: resample after the last step too, so that weights are equal and first actions repeat; this adds noise
    :raises ValueError: for numbers out of range, and where both kinds of resampling are given
    """

    n_particles: int = 16
    depth: int = 4
    temperature: float = 1.0
    gamma: float = 0.99
    resample_period: int | None = None
    ess_threshold: float | None = None
    resampling: str = "systematic"
    as_published: bool = False

    def __post_init__(self) -> None:
        check_count("n_particles", self.n_particles)
        check_count("depth", self.depth)
        check_number("temperature", self.temperature, positive=True)
        check_fraction("gamma", self.gamma)
        check_resampling("resampling", self.resampling)
        check_period("resample_period", self.resample_period)
        check_share("ess_threshold", self.ess_threshold)
        if self.resample_period is not None and self.ess_threshold is not None:
            raise ValueError(
                f"resample_period is {self.resample_period} and ess_threshold {self.ess_threshold}; give one of them "
                "and None for the other (SPO's resample_period is 4 if it is left out): resampling comes after a number of "
                "steps or when weights have become uneven."
            )

    def resamples(self, log_weights: Tensor, step: int) -> Tensor | None:
        """Which roots to resample after ``step``, ``(B,)``; None for no root.

        :param log_weights: ``(B, N)``
        """
        every = torch.ones(len(log_weights), dtype=torch.bool, device=log_weights.device)
        if step == self.depth - 1:
            return every if self.as_published else None
        if self.resample_period is not None:
            return every if (step + 1) % self.resample_period == 0 else None
        if self.ess_threshold is not None:
            return effective_sample_size(log_weights.softmax(dim=-1)) < self.ess_threshold * self.n_particles
        return None


def check_period(name: str, value: Any) -> None:
    """Check that ``value`` is a number of steps, or None."""
    if value is not None:
        check_count(name, value)


def check_share(name: str, value: Any) -> None:
    """Check that ``value`` is a share in (0, 1], or None."""
    if value is not None:
        check_number(name, value, maximum=1.0, positive=True)


def _by_itself(actions: Tensor) -> Any:
    return actions


@torch.no_grad()
def search(
    simulator: Simulator,
    states: States,
    observations: Any,
    propose: Propose,
    value: Value,
    *,
    n_particles: int = 16,
    depth: int = 4,
    temperature: float = 1.0,
    gamma: float = 0.99,
    resample_period: int | None = None,
    ess_threshold: float | None = None,
    resampling: str = "systematic",
    as_published: bool = False,
    propose_root: ProposeRoot | None = None,
    to_env: Callable[[Tensor], Any] = _by_itself,
    scale_rewards: Callable[[Tensor], Tensor] = _by_itself,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Search:
    """Plan from ``B`` states.

    The environment that ``states`` were captured from is not changed. Its random numbers are not known to the search:
    particles draw their own. Settings are those of :class:`SearchSettings`.

    :param simulator: of the environment
    :param states: the roots, ``B`` of them; they can be used again
    :param observations: at the roots, ``(B, *obs_shape)``, arrays or tensors, or a dictionary of such
    :param propose: samples an action of the policy for each observation
    :param value: V of each observation, with discount ``gamma``
    :param propose_root: samples the first actions, for exploration at the root; None: as ``propose``
    :param to_env: from actions of the policy to those that the environment takes
    :param scale_rewards: from rewards of the environment to the units of V
    :param generator: for the resampling and for the seed of the particles' random numbers
    :param device: device of ``propose`` and ``value``; None: that of the generator or of the simulator, else the CPU
    :raises ValueError: for settings out of range
    """
    settings = SearchSettings(n_particles, depth, temperature, gamma, resample_period, ess_threshold, resampling, as_published)
    roots, count = len(states), n_particles
    given = device or (None if generator is None else generator.device) or simulator.device or "cpu"
    device = torch.device(given)
    seen = _tensors(observations, device)
    root_values = value(seen)
    dtype = root_values.dtype

    if simulator.stochastic:
        seed = int(torch.randint(2**31, (1,), generator=generator, device=None if generator is None else generator.device))
        states = simulator.reseed(states, seed)
    particles = simulator.replicate(states, count)
    seen = tree_map(lambda rows: rows.repeat_interleave(count, dim=0), seen)
    actions, correction = (propose(seen), None) if propose_root is None else propose_root(seen)
    first_actions = actions.reshape(roots, count, *actions.shape[1:])

    def by_root(per_particle: Any) -> Tensor:
        return torch.as_tensor(per_particle, device=device).reshape(roots, count)

    corrections = torch.zeros(roots, count, device=device, dtype=dtype) if correction is None else by_root(correction)
    log_weights = corrections
    values = root_values.repeat_interleave(count).reshape(roots, count)
    alive = ~by_root(particles.ended)
    advantages = torch.zeros_like(values)  # up to the first resampling, indexed by the particle's initial slot
    paths = torch.zeros_like(values)  # of the remaining particles, over the whole path
    diverged = torch.zeros_like(alive)  # of the remaining particles
    lost = diverged  # indexed by the particle's initial slot, up to the first resampling
    intact = torch.ones(roots, 1, dtype=torch.bool, device=device)  # not resampled yet
    rows = torch.arange(roots, device=device).unsqueeze(-1)
    log: list[dict[str, Tensor]] = []

    for step in range(depth):
        outcome = simulator.step(particles, _for(simulator, to_env(actions)))
        particles, seen = outcome.states, _tensors(outcome.observations, device)
        whole, seen = by_root(_whole(seen)), tree_map(_finite, seen)
        terminated, truncated = by_root(outcome.terminated), by_root(outcome.truncated)
        rewards = scale_rewards(by_root(outcome.rewards).to(dtype))
        # Not a product: the value may be NaN there.
        next_values = torch.where(terminated, 0.0, value(seen).reshape(roots, count))
        gained = gamma**step * (rewards + gamma * next_values - values)
        broken = alive & ~((whole | terminated) & gained.isfinite())  # observations after an end are not used
        diverged, lost = diverged | broken, lost | (broken & intact)
        gained = torch.where(alive & ~broken, gained, 0.0)
        log_weights = log_weights + gained / temperature
        advantages = advantages + gained * intact
        paths = paths + gained
        # A root without another branch keeps finite weights; its value is NaN.
        log_weights = log_weights.masked_fill(diverged & ~diverged.all(dim=-1, keepdim=True), -torch.inf)
        log.append(_diagnostics(log_weights, alive, broken, first_actions))
        values, alive = next_values, alive & ~terminated & ~truncated & ~broken
        particles.ended = particles.ended | _for(simulator, broken.reshape(-1))

        which = settings.resamples(log_weights, step)
        if which is not None:
            drawn = RESAMPLING[resampling](log_weights.softmax(dim=-1), generator)
            kept = torch.where(which.unsqueeze(-1), drawn, torch.arange(count, device=device))
            flat = (kept + rows * count).reshape(-1)
            particles = simulator.select(particles, _index(simulator, flat))
            seen = tree_map(lambda leaf, flat=flat: leaf[flat], seen)
            first_actions, values, alive, paths, diverged = (
                part[rows, kept] for part in (first_actions, values, alive, paths, diverged)
            )
            log_weights = torch.where(which.unsqueeze(-1), 0.0, log_weights)
            intact = intact & ~which.unsqueeze(-1)
            log[-1]["resampled"] = which.to(dtype).mean()
        if step < depth - 1:
            actions = propose(seen)  # after the resampling: for the state that a particle was moved to

    weights = log_weights.softmax(dim=-1)
    diagnostics = {name: torch.stack([entry[name] for entry in log]) for name in log[0]}
    model_steps = diagnostics.pop("stepped").sum()
    found_values = root_values + (weights * paths).sum(dim=-1)
    found_values = torch.where(diverged.all(dim=-1), torch.nan, found_values)
    # For fitting a temperature, a diverged branch counts as the worst of the others.
    worst = torch.where(lost, torch.inf, advantages).amin(dim=-1, keepdim=True)
    advantages = torch.where(lost, worst, advantages)
    return Search(first_actions, weights, advantages, corrections, found_values, diagnostics, model_steps)


def _diagnostics(log_weights: Tensor, alive: Tensor, broken: Tensor, first_actions: Tensor) -> dict[str, Tensor]:
    """Diagnostics of one depth, before resampling."""
    weights = log_weights.softmax(dim=-1)
    return {
        "effective_sample_size": effective_sample_size(weights).mean(),
        "entropy": -(weights * weights.clamp(min=1e-12).log()).sum(dim=-1).mean(),
        "alive": alive.to(weights.dtype).mean(),
        "stepped": alive.sum(),
        "diverged": broken.to(weights.dtype).mean(),
        "resampled": torch.zeros((), device=weights.device, dtype=weights.dtype),
        "distinct_actions": distinct(first_actions).to(weights.dtype).mean(),
    }


def distinct(actions: Tensor) -> Tensor:
    """The number of different actions at each root, ``(B,)``.

    :param actions: ``(B, N, *action_shape)``
    """
    flat = actions.reshape(*actions.shape[:2], -1)
    order = torch.arange(flat.shape[1], device=flat.device).expand(flat.shape[:2])
    for column in flat.unbind(dim=-1):  # sorted by one column after the other, equal actions come to lie side by side
        order = order.gather(1, column.gather(1, order).argsort(dim=1, stable=True))
    rows = flat.gather(1, order.unsqueeze(-1).expand_as(flat))
    return 1 + (rows[:, 1:] != rows[:, :-1]).any(dim=-1).sum(dim=-1)


def search_divergence(advantages: Tensor, temperature: Tensor | float, correction: Tensor | float = 0.0) -> Tensor:
    """KL(q || pi) in nats, from the weights of samples of pi with these advantages, ``(B,)``; at most log N.

    :param advantages: ``(B, N)``
    :param correction: for samples of another distribution, log pi minus their log-probability, ``(B, N)``
    """
    log_weights = (advantages / temperature + correction).log_softmax(dim=-1)
    return (log_weights.exp() * (log_weights + math.log(advantages.shape[-1]) - correction)).sum(dim=-1)


def _tensors(observations: Any, device: torch.device) -> Any:
    """Observations as tensors on the device; those already there are not copied."""
    if all(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(observations)):
        return tree_map(lambda leaf: leaf.to(device), observations)
    return to_tensor(observations, device)


def _for(simulator: Simulator, actions: Any) -> Any:
    """Actions as the kind of array that the simulator takes."""
    if not isinstance(actions, torch.Tensor):
        return actions if simulator.device is None else torch.as_tensor(actions, device=simulator.device)
    return actions.cpu().numpy() if simulator.device is None else actions.to(simulator.device)


def _whole(seen: Any) -> Tensor:
    """Whether all numbers of each row are finite, ``(K,)``."""
    leaves = [leaf for leaf in tree_leaves(seen) if leaf.is_floating_point()]
    if not leaves:
        return torch.ones(len(tree_leaves(seen)[0]), dtype=torch.bool, device=tree_leaves(seen)[0].device)
    return torch.stack([leaf.isfinite().reshape(len(leaf), -1).all(dim=-1) for leaf in leaves]).all(dim=0)


def _finite(leaf: Tensor) -> Tensor:
    """Finite input for the policy, also where a branch has diverged; its output there is ignored."""
    return leaf.nan_to_num() if leaf.is_floating_point() else leaf


def _index(simulator: Simulator, index: Tensor) -> Any:
    return index.cpu().numpy() if simulator.device is None else index.to(simulator.device)
