"""What no policy can beat: the best plan of somebody who knows the demand to come."""

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
    episode's own start, with its demand known from the first period on. No rule has a higher return in that episode, whatever
    it knows; so the mean over episodes bounds, up to the error of the mean, the expected return of every policy from where
    episodes start, the optimal one too. It is not tight, because demand is known, and when the time is up, or with ``relax``,
    what is left is a bound on the program, not its solution.

    :param instance: of the plant
    :param n_episodes: how many
    :param seed: of the episodes: those that :func:`~rlspo.envs.lot_sizing.rules.evaluate_rule` plays with this seed, so that
        returns are bounded one by one
    :param time_limit: seconds for each episode; more for a tighter bound
    :param relax: let machines split their time and pay parts of setups (the linear relaxation): quick, and loose where setups
        are dear
    :return: ``(n_episodes,)``
    :raises RuntimeError: where an episode got no bound in its time
    """
    program = PlantProgram(instance, np.ones(instance.time_horizon, int))
    costs = program.costs()
    bounds = np.zeros(n_episodes)
    for k, (inventory, setups, demand) in enumerate(draw_episodes(instance, n_episodes, seed)):
        result = program.solve(costs, inventory, setups, demand, relax=relax, time_limit=time_limit)
        # A relaxation that was cut short has a feasible cost and no bound; a program has a dual bound at any time.
        bound = (result.fun if result.status == 0 else None) if relax else result.mip_dual_bound
        if bound is None or not np.isfinite(bound):
            raise RuntimeError(f"Episode {k} of {instance.name} has no bound after {time_limit} s; raise time_limit.")
        bounds[k] = -bound
    return bounds
