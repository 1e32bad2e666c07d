"""A map of which expert of a mixture acts where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlspo.common.trees import to_tensor, tree_leaves
from rlspo.zoo.config.atomic import whole
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.acting import Actor, own_randomness
from rlspo.zoo.experts.mixture import check_mixture, expert_colours
from rlspo.zoo.runs.saved_agent import SavedAgent

Array = np.ndarray


_ENVS = 4


FEWEST = 10


_MOST_HISTOGRAMS = 8


_MOST_LABELS = 6


@dataclass(frozen=True)
class Steps:
    """The steps of the agent.

    :param seen: inputs of the network, flat, ``(n, n_inputs)``
    :param experts: index of the acting expert, ``(n,)``
    :param actions: flat, ``(n, n_components)``
    :param n_experts: of the policy
    """

    seen: Array
    experts: Array
    actions: Array
    n_experts: int


def act(agent: SavedAgent, steps: int, deterministic: bool, seed: int, device: str = "cpu") -> Steps:
    """Let the agent act, and record network inputs, acting experts and actions.

    :param steps: over all environments
    :param seed: of the environments and the agent
    """
    model = agent.load(device)
    check_mixture(model)
    env = agent.build_env(_ENVS, seed)
    agent.check_fit(model, env)
    policy: Any = model.policy
    seen, experts, actions = [], [], []
    try:
        with own_randomness(model, seed):
            actor = Actor(model, env, deterministic)
            observations: Any = env.reset()
            starts = np.ones(_ENVS, dtype=bool)
            for _ in range(-(-steps // _ENVS)):
                taken = actor(observations, starts)
                with torch.no_grad():
                    inputs = policy.preprocess(to_tensor(observations, policy.device))
                seen.append(np.concatenate([leaf.reshape(_ENVS, -1).cpu().numpy() for leaf in tree_leaves(inputs)], axis=1))
                experts.append(policy.acting_experts)
                actions.append(np.asarray(taken, np.float64).reshape(_ENVS, -1))
                observations, _, starts, _ = env.step(taken)
    finally:
        env.close()
    points, acting, taken = (np.concatenate(parts)[:steps] for parts in (seen, experts, actions))
    return Steps(points, acting, taken, policy.n_experts)


def principal(seen: Array) -> tuple[Array, Array]:
    """The two directions in which points differ most, each input in units of its standard deviation.

    :param seen: ``(n, n_inputs)``
    :return: coordinates, ``(n, 2)``, and the share of the variance along each, ``(2,)``
    """
    spread = seen.std(axis=0)
    scaled = (seen - seen.mean(axis=0)) / np.where(spread > 1e-8, spread, 1.0)
    if scaled.shape[1] == 1:
        scaled = np.concatenate([scaled, np.zeros_like(scaled)], axis=1)
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    return left[:, :2] * sizes[:2], sizes[:2] ** 2 / max(float((sizes**2).sum()), 1e-12)


def neighbours(seen: Array) -> Array:
    """A plane on which near points stay near (t-SNE), ``(n, 2)``.

    :raises UserError: if scikit-learn is missing
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise UserError("--tsne needs scikit-learn: pip install scikit-learn. Without it the map is a PCA.") from error
    spread = seen.std(axis=0)
    scaled = (seen - seen.mean(axis=0)) / np.where(spread > 1e-8, spread, 1.0)
    perplexity = min(30.0, (len(seen) - 1) / 3)
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=0).fit_transform(scaled)


def draw(steps: Steps, places: Array, axes_names: tuple[str, str], title: str, file: Path) -> None:
    """Draw the map, the shares and the histograms.

    :param places: of the steps in the plane, ``(n, 2)``
    """
    from matplotlib.ticker import MaxNLocator

    from rlspo.zoo.plot import style

    colours = expert_colours(steps.n_experts)
    shown = min(steps.actions.shape[1], _MOST_HISTOGRAMS)
    with style.drawing():
        figure = style.new_figure(10.5, max(4.6, 0.9 * (shown + 1)))
        grid = figure.add_gridspec(shown + 1, 2, width_ratios=[1.7, 1])
        plane = figure.add_subplot(grid[:, 0])
        order = np.random.default_rng(0).permutation(len(places))  # so that no expert hides the others
        plane.scatter(
            places[order, 0], places[order, 1], s=7, c=[colours[k] for k in steps.experts[order]], alpha=0.6, linewidths=0
        )
        plane.set_title(title, loc="left", fontsize=style.LARGE, color=style.INK)
        plane.set_xlabel(axes_names[0], fontsize=style.NORMAL)
        plane.set_ylabel(axes_names[1], fontsize=style.NORMAL)
        style.plain(plane)
        shares = np.bincount(steps.experts, minlength=steps.n_experts) / len(steps.experts)
        bars = figure.add_subplot(grid[0, 1])
        bars.bar(range(steps.n_experts), 100 * shares, color=colours)
        few = steps.n_experts <= _MOST_LABELS
        for k, share in enumerate(shares):
            size = style.SMALL if few else 0.6 * style.SMALL
            bars.annotate(f"{share:.0%}", (k, 100 * share), ha="center", va="bottom", fontsize=size)
        bars.set_xticks(range(steps.n_experts), [f"expert {k}" if few else str(k) for k in range(steps.n_experts)])
        bars.set_yticks([])
        bars.margins(y=0.35)
        style.plain(bars)
        bars.set_title("how often each acts", loc="left", fontsize=style.NORMAL, color=style.INK)
        for component in range(shown):
            panel = figure.add_subplot(grid[component + 1, 1])
            _histogram(panel, steps, component, colours)
            style.plain(panel)
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=_whole_numbers(steps.actions[:, component])))
            panel.set_yticks([])
            panel.set_ylabel(f"a{component}", rotation=0, labelpad=12, va="center", fontsize=style.NORMAL)
        if shown < steps.actions.shape[1]:
            style.caption(figure, f"The first {shown} of {steps.actions.shape[1]} components of the action.")
        with whole(file) as partial:
            figure.savefig(partial)


def _histogram(panel: Any, steps: Steps, component: int, colours: Sequence[str]) -> None:
    values = steps.actions[:, component]
    whole_numbers = _whole_numbers(values)
    edges = np.arange(values.min() - 0.5, values.max() + 1) if whole_numbers else np.linspace(values.min(), values.max(), 41)
    if not whole_numbers and values.max() <= values.min():
        edges = np.linspace(values.min() - 0.5, values.min() + 0.5, 3)
    each = [values[steps.experts == k] for k in range(steps.n_experts)]
    panel.hist(each, bins=edges, stacked=True, color=colours)


def _whole_numbers(values: Array) -> bool:
    """Whether the values are whole numbers with at most 30 different ones, as discrete actions are."""
    return bool((values == np.round(values)).all()) and len(np.unique(values)) <= 30
