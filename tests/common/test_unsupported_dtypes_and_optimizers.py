"""What rlspo does not compute with is refused in one line: other types of numbers, optimisers that evaluate the loss again."""

from typing import Any

import pytest
import torch

from rlspo import PPO, SAC
from tests.spaces import SpacesEnv

AGENTS: dict[Any, dict[str, Any]] = {PPO: {"n_steps": 16, "batch_size": 16}, SAC: {"learning_starts": 5, "batch_size": 8}}
every_agent = pytest.mark.parametrize("agent", AGENTS)


@every_agent
def test_another_default_type(agent: Any) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=r"default type is torch.float64.*set_default_dtype\(torch.float32\)"):
            agent("MlpPolicy", SpacesEnv(), **AGENTS[agent], device="cpu")
    finally:
        torch.set_default_dtype(torch.float32)


@every_agent
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_policy_of_another_type(agent: Any, dtype: torch.dtype) -> None:
    model = agent("MlpPolicy", SpacesEnv(), **AGENTS[agent], device="cpu", seed=1)
    model.policy.to(dtype)
    with pytest.raises(ValueError, match=rf"is {dtype}; rlspo acts and learns in torch.float32. Call model.policy.float()"):
        model.learn(16)
    model.policy.float()
    model.learn(16)


@every_agent
def test_an_optimizer_that_evaluates_the_loss_again(agent: Any) -> None:
    settings = {"optimizer_class": torch.optim.LBFGS, "optimizer_kwargs": {}}
    with pytest.raises(ValueError, match=r"LBFGS.*torch.optim.Adam"):
        agent("MlpPolicy", SpacesEnv(), **AGENTS[agent], device="cpu", policy_kwargs=settings)
