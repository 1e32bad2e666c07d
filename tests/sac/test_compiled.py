"""The compiled step does what the eager one does, and goes on doing so after a load."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rlspo import SAC
from tests.spaces import SpacesEnv

Tensor = torch.Tensor
OPTIONS: dict[str, Any] = {"learning_starts": 10, "batch_size": 16, "buffer_size": 200, "seed": 1, "compile": False}
#: On CUDA the first two calls warm up and record what the others replay.
STEPS = 6


def vectors(model: SAC) -> list[Tensor]:
    parts = model.update.parts.values()
    return [v for p in parts for v in (p.weights, p.first_moment, p.second_moment, p.steps)] + [model.update.target.weights]


def take_steps(model: SAC) -> Tensor:
    """Reports of a few steps on other rows, with other noise and another learning rate each."""
    generator = torch.Generator(model.device).manual_seed(0)
    reports = []
    for step in range(STEPS):
        rows = torch.arange(16, device=model.device) + step
        noise = {when: model.policy.draw_noise(16, generator) for when in ("now", "next")}
        rate = torch.tensor(1e-3 / (1 + step), device=model.device)
        scalars = {name: rate if name.startswith("learning_rate") else one for name, one in model.scalars().items()}
        reports.append(model.update(model.replay_buffer.data, rows, scalars, noise))
    return torch.stack(reports)


def assert_equal_steps(model: SAC, compiled: Any) -> None:
    """``compiled`` moves everything where the plain function does."""
    before = [vector.clone() for vector in vectors(model)]
    results = []
    for function in (model.update.pure_function(), compiled):
        for vector, value in zip(vectors(model), before, strict=True):
            vector.copy_(value)
        model.update._function = function
        results.append((take_steps(model), [vector.clone() for vector in vectors(model)]))
    (eager_report, eager), (report, moved) = results
    torch.testing.assert_close(report, eager_report, rtol=1e-3, atol=1e-4)
    for got, expected, start in zip(moved, eager, before, strict=True):
        distance = (expected - start).norm()
        assert distance > 0
        assert (got - expected).norm() < 1e-3 * max(distance, 1e-3)


@pytest.mark.parametrize(
    ("policy", "kwargs"),
    [
        ("MlpPolicy", {}),
        ("MoeMlpPolicy", {"primitive_update": "all"}),
        ("MoeMlpPolicy", {"primitive_update": "max"}),
    ],
    ids=["mlp", "all", "max"],
)
def test_compiled_equals_eager(policy: str, kwargs: dict[str, Any], tmp_path: Path, device: str) -> None:
    """Also on transitions and weights that were loaded since: what was compiled, and recorded, for others is not used on."""
    model = SAC(policy, SpacesEnv(), **OPTIONS, policy_kwargs={"net_arch": [16], **kwargs}, device=device).learn(40)
    model.update.use_compiled(True)
    compiled = model.update._function
    assert_equal_steps(model, compiled)
    other = SAC(policy, SpacesEnv(), **{**OPTIONS, "seed": 2}, policy_kwargs={"net_arch": [16], **kwargs}, device=device)
    other.learn(40).save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    model.set_parameters(other.get_parameters())
    assert torch.equal(model.update.target.weights, other.update.target.weights)
    assert_equal_steps(model, compiled)
