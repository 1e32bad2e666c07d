"""The compiled update does what the eager one does, for every kind of action."""

from typing import Any

import pytest
import torch

from rlspo import PPO
from rlspo.common.update import MINIBATCH_FIELDS
from tests.spaces import ACTIONS, SpacesEnv


def one_step(model: PPO, state: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The report of one minibatch step from ``state`` and how it moved the parameters."""
    flat = model.update.vector
    for vector, value in zip((flat.weights, flat.first_moment, flat.second_moment, flat.steps), state, strict=True):
        vector.copy_(value)
    scalars = {**model.scalars(), "learning_rate": 1e-3}
    scalars = model.update.tensors_of(scalars)
    data = model.rollout_buffer.tensors(tuple(MINIBATCH_FIELDS.values()))
    rows = torch.arange(model.batch_size, device=model.device)
    model.update.begin()
    report = model.update(data, rows, scalars, model.draw_noise(model.batch_size)).clone()
    return report, flat.weights - state[0]


@pytest.mark.parametrize("action", ACTIONS)
def test_compiled_equals_eager(action: str, device: str) -> None:
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 2, "policy_kwargs": {"net_arch": [8]}}
    options |= {"clip_range_vf": 0.2, "ent_coef": 0.01, "compile": False, "device": device}
    model = PPO("MlpPolicy", SpacesEnv("box", action), **options).learn(32)
    flat = model.update.vector
    state = [vector.clone() for vector in (flat.weights, flat.first_moment, flat.second_moment, flat.steps)]
    report, movement = one_step(model, state)
    model.update.use_compiled(True)
    compiled_report, compiled_movement = one_step(model, state)
    assert model.update.compiled
    assert movement.norm() > 1e-3
    torch.testing.assert_close(compiled_report, report, rtol=1e-4, atol=1e-6)
    assert (compiled_movement - movement).norm() < 1e-4 * movement.norm()
    assert float(flat.steps) == float(state[3]) + 1


def test_what_is_changed_between_two_rounds_counts() -> None:
    """What was compiled is asked again at the beginning of each round: a new weight and a new batch size take effect."""
    moved = {}
    for compiled in (False, True):
        model = PPO("MlpPolicy", SpacesEnv("box", "discrete"), n_steps=32, batch_size=16, n_epochs=2, seed=2, compile=compiled)
        model.learn(64)
        model.vf_coef, model.batch_size = 50.0, 8
        before = model.update.vector.weights.clone()
        model.train()
        assert model.update.compiled == compiled
        moved[compiled] = model.update.vector.weights - before
    assert (moved[True] - moved[False]).norm() < 1e-2 * moved[False].norm()
