"""A bound on every policy: the best plan with perfect information of future demand."""

from __future__ import annotations

import numpy as np

from rlspo.envs.lot_sizing.instance import Instance
from rlspo.envs.lot_sizing.program import PlantProgram
from rlspo.envs.lot_sizing.rules.evaluate import draw_episodes

Array = np.ndarray


def perfect_information_bound(
    instance: Instance, n_episodes: int, seed: int, time_limit: float = 10.0, relax: bool = False
) -> Array:
    """Upper bounds on the undiscounted return (lower bounds on the cost) of episodes.

    For each episode, the dual bound of :class:`~rlspo.envs.lot_sizing.program.PlantProgram` over the whole horizon from the
    episode's own start, with its demand known from the first period on. No rule has a higher return in that episode. So the
    mean over episodes bounds, up to its standard error, the expected return of every policy, including the optimal one. The
    bound is not tight, because demand is known. At the time limit, or with ``relax``, the result is a bound on the program,
    not its solution.

    :param instance: of the plant
    :param n_episodes: number of episodes
    :param seed: of the episodes: the same as for :func:`~rlspo.envs.lot_sizing.rules.evaluate_rule` with this seed, so that
        each return is bounded
    :param time_limit: seconds for each episode; more for a tighter bound
    :param relax: the linear relaxation, in which machines split their time and pay fractions of setups: quick, and loose where
        setups are expensive
    :return: ``(n_episodes,)``
    :raises RuntimeError: if an episode has no bound within the time limit
    """
    program = PlantProgram(instance, np.ones(instance.time_horizon, int))
    costs = program.costs()
    bounds = np.zeros(n_episodes)
    for k, (inventory, setups, demand) in enumerate(draw_episodes(instance, n_episodes, seed)):
        result = program.solve(costs, inventory, setups, demand, relax=relax, time_limit=time_limit)
        # An interrupted relaxation has a feasible cost but no bound; an integer program has a dual bound at any time.
        bound = (result.fun if result.status == 0 else None) if relax else result.mip_dual_bound
        if bound is None or not np.isfinite(bound):
            raise RuntimeError(f"Episode {k} of {instance.name} has no bound after {time_limit} s; raise time_limit.")
        bounds[k] = -bound
    return bounds
