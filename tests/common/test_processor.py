"""Arithmetic with numbers that are nearly 0."""

from typing import Any, ClassVar

import gymnasium as gym
import pytest
import torch

from rlspo import PPO, SAC
from rlspo.common.processor import tiny_is_zero

TINY = 1e-40  # below the smallest normal number of float32


def is_zero() -> bool:
    return bool(torch.full((64,), TINY).mul(1.0).eq(0.0).all())


@pytest.fixture(autouse=True)
def usual() -> Any:
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


def test_tiny_numbers_are_zero_inside_and_are_kept_outside() -> None:
    assert not is_zero()
    with tiny_is_zero():
        assert is_zero()
        with tiny_is_zero():
            pass
        assert is_zero(), "the inner one left the outer one's choice"
    assert not is_zero()
    with pytest.raises(KeyError), tiny_is_zero():
        raise KeyError
    assert not is_zero()


def test_a_users_choice_stays() -> None:
    torch.set_flush_denormal(True)
    with tiny_is_zero():
        pass
    assert is_zero()


class Watched(gym.Wrapper):
    """Notes how its steps count tiny numbers."""

    def __init__(self) -> None:
        super().__init__(gym.make("Pendulum-v1"))
        self.found: set[bool] = set()

    def step(self, action: Any) -> Any:
        self.found.add(is_zero())
        return super().step(action)


class Noting(torch.nn.Tanh):
    """Notes how minibatches of 16 rows, which updates have, count tiny numbers."""

    found: ClassVar[set[bool]] = set()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) == 16:
            self.found.add(is_zero())
        return super().forward(inputs)


@pytest.mark.parametrize("cls", [PPO, SAC])
def test_updates_take_them_for_zero_and_environments_do_not(cls: Any) -> None:
    """A simulator's numbers stay those that it has without an agent."""
    env = Watched()
    settings = {"n_steps": 32} if cls is PPO else {"learning_starts": 20}
    Noting.found.clear()
    kwargs = {"activation_fn": Noting}
    cls("MlpPolicy", env, batch_size=16, policy_kwargs=kwargs, device="cpu", compile=False, **settings).learn(40)
    assert env.found == {False}
    assert not is_zero()
    assert Noting.found == {True}
