"""What an environment raises reaches the caller as it is, with a note that says which environment it was, and when."""

from typing import Any

import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo import PPO, SAC
from rlspo.common.env_failures import _COUNTERS, _STEPPING, in_one_line
from rlspo.common.off_policy import OffPolicyAgent
from rlspo.common.on_policy import OnPolicyAgent
from tests.spaces import SpacesEnv


class EnoughError(Exception):
    """What a caller waits for."""


class Raises(SpacesEnv):
    """Its fifth step fails, or its first reset."""

    def __init__(self, sick: bool = True, at_reset: bool = False) -> None:
        super().__init__()
        self.sick, self.at_reset, self.taken = sick, at_reset, 0

    def reset(self, **kwargs: Any) -> Any:
        if self.sick and self.at_reset:
            raise EnoughError("at the start")
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.taken += 1
        if self.sick and self.taken == 5:
            raise EnoughError("enough")
        return super().step(action)


def makers(**kwargs: Any) -> list[Any]:
    return [lambda index=index: Raises(sick=index == 2, **kwargs) for index in range(3)]


SOURCES = {
    "dummy": lambda: DummyVecEnv(makers()),
    "same step": lambda: SyncVectorEnv(makers(), autoreset_mode=AutoresetMode.SAME_STEP),
    "next step": lambda: SyncVectorEnv(makers(), autoreset_mode=AutoresetMode.NEXT_STEP),
}
AGENTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "PPO": (PPO, {"n_steps": 16, "batch_size": 16}),
    "SAC": (SAC, {"learning_starts": 100, "buffer_size": 100}),
}


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_exception_keeps_its_type(agent: str, source: str) -> None:
    cls, options = AGENTS[agent]
    model = cls("MlpPolicy", SOURCES[source](), **options)
    with pytest.raises(EnoughError, match="enough") as error:
        model.learn(100)
    assert str(error.value) == "enough"
    assert "Environment 2 raised this at step 4." in in_one_line(error.value)
    assert ("unfinished rollout was dropped" in in_one_line(error.value)) == (agent == "PPO")


@pytest.mark.parametrize("agent", AGENTS)
def test_at_the_first_reset(agent: str) -> None:
    cls, options = AGENTS[agent]
    model = cls("MlpPolicy", DummyVecEnv(makers(at_reset=True)), **options)
    with pytest.raises(EnoughError) as error:
        model.learn(100)
    assert "Environment 2 raised this at step 0." in in_one_line(error.value)


@pytest.mark.parametrize("agent", AGENTS)
def test_what_a_callback_raises_is_no_environments(agent: str) -> None:
    """Also where the callback steps an environment of its own."""

    class Asks(BaseCallback):
        def _on_step(self) -> bool:
            own = DummyVecEnv([Raises])
            own.reset()
            for _ in range(5):
                own.step([own.action_space.sample()])
            return True

    cls, options = AGENTS[agent]
    with pytest.raises(EnoughError) as error:
        cls("MlpPolicy", SpacesEnv(), **options).learn(100, callback=Asks())
    assert in_one_line(error.value) == "EnoughError: enough"


@pytest.mark.parametrize(("function", "cls"), [*_COUNTERS])
def test_the_libraries_count_environments_by_these_names(function: str, cls: type) -> None:
    """A release that calls the variable something else would cost the index in the note, silently."""
    assert _COUNTERS[function, cls] in getattr(cls, function).__code__.co_varnames


def test_environments_are_stepped_and_reset_by_these_methods() -> None:
    for function in _STEPPING:
        assert any(hasattr(cls, function) for cls in (OnPolicyAgent, OffPolicyAgent))
