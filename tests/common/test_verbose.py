"""``verbose=0`` prints nothing."""

import pytest

from rlspo.common.registry import agent_class, agent_names

ENVS = {"sac": "Pendulum-v1", "pdppo": "rlspo/FrozenLakePostDecision-v0"}
SHORT = {"sac": {"learning_starts": 8, "buffer_size": 100}}


@pytest.mark.parametrize("name", agent_names())
def test_learning_prints_nothing(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    settings = SHORT.get(name, {"n_steps": 16, "batch_size": 16})
    model = agent_class(name)("MlpPolicy", ENVS.get(name, "CartPole-v1"), verbose=0, device="cpu", **settings)
    model.learn(24)
    assert capfd.readouterr() == ("", "")
