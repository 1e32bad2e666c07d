"""Acting on the CPU while the update is on a GPU: small networks answer there before a GPU has been asked."""

from __future__ import annotations

import copy
from typing import Any

from rlspo.common.module_contents import ModuleContents

#: What ``acting_device`` may be.
ACTING_DEVICES = ("auto", "policy")
#: Environments times weights up to which NumPy's answer comes first: one CPU core takes 0.3 ms for as many
#: (benchmarks/results/acting_cpu.json), and a step on a GPU takes 0.7 ms, however small (throughput_cuda.json).
MULTIPLICATIONS_THAT_PAY = 10_000_000


def pays(policy: Any, n_envs: int) -> bool:
    """Whether a copy on the CPU acts faster than the policy.

    :param policy: on its device
    :param n_envs: observations of a step
    """
    weights = sum(parameter.numel() for parameter in policy.parameters())
    return policy.device.type != "cpu" and n_envs * weights <= MULTIPLICATIONS_THAT_PAY


class CopyOnCpu:
    """A copy of a policy that acts, and is given the weights once per rollout.

    :param policy: to be copied
    """

    def __init__(self, policy: Any) -> None:
        without = {id(policy.generator): None, id(policy.optimizer): None}
        self.policy = copy.deepcopy(policy, without).cpu()
        self._copied = ModuleContents(policy)
        self._hooks = self._hooks_now()

    @property
    def is_current(self) -> bool:
        """Whether the layers of the policy, and the hooks on them, are still those that were copied."""
        return self._copied.are_same() and self._hooks == self._hooks_now()

    def _hooks_now(self) -> list[Any]:
        """Hooks of the policy's layers, which the copy has from the time it was made."""
        return [[*layer._forward_pre_hooks, *layer._forward_hooks] for _, layer in self._copied.layers]

    def follow(self, policy: Any) -> Any:
        """The copy, with the weights and statistics that ``policy`` has now."""
        self.policy.load_state_dict(policy.state_dict())
        return self.policy
