"""Whether an agent that is to be trained can be attacked."""

from __future__ import annotations

from gymnasium import spaces

from rlspo.policies import functional_policy_class
from rlspo.policies.recurrent import KNOWN_POLICIES
from rlspo.zoo.config.hyperparams import policy_class
from rlspo.zoo.errors import UserError
from rlspo.zoo.train.plan import Plan


def check_attack(attack: str, plan: Plan) -> None:
    """Attacks need a policy that they can differentiate, and observations that they can shift.

    :param attack: its name
    :raises UserError: where one of them is missing
    """
    policy = plan.policy if isinstance(plan.policy, type) else policy_class(plan.cls, plan.policy, "")
    try:
        functional_policy_class(policy, KNOWN_POLICIES)
    except TypeError as error:
        raise UserError(
            f"the {attack} attack needs an actor-critic policy that rlspo knows, as PPO and A2C have; "
            f"{plan.cls.__name__} has {policy.__name__}."
        ) from error
    env = plan.recipe.build(n_envs=1, seed=None, training=False)
    env.close()
    space = env.observation_space
    parts = space.values() if isinstance(space, spaces.Dict) else [space]
    if not any(isinstance(part, spaces.Box) for part in parts):
        raise UserError(f"the {attack} attack has nothing to shift: observations are {space}.")
