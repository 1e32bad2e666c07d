"""bfloat16 convolutions: where they are chosen, and that they compute nearly the same."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from rlspo import PPO
from rlspo.common import precision
from rlspo.common.update import MINIBATCH_FIELDS
from tests.spaces import OBSERVATIONS, SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 1, "learning_rate": 1e-3}


def dtype_of(choice: str, observation: str, policy: str) -> torch.dtype | None:
    return PPO(policy, SpacesEnv(observation), **SMALL, device="cpu", precision=choice).policy.convolution_dtype


@pytest.mark.parametrize("fast", [True, False])
def test_chosen_where_there_are_convolutions_and_hardware(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_is_fast", lambda device: fast)
    assert dtype_of("float32", "image", "CnnPolicy") is None
    assert dtype_of("bfloat16", "image", "CnnPolicy") is torch.bfloat16
    assert dtype_of("auto", "image", "CnnPolicy") is (torch.bfloat16 if fast else None)
    assert dtype_of("auto", "dict", "MultiInputPolicy") is (torch.bfloat16 if fast else None)
    assert dtype_of("bfloat16", "box", "MlpPolicy") is None


def test_nearly_the_same_numbers_and_float32_parameters(device: str) -> None:
    half, single = (PPO("CnnPolicy", SpacesEnv("image"), **SMALL, device=device, precision=p) for p in ("bfloat16", "float32"))
    half.set_parameters(single.get_parameters())
    images = torch.as_tensor(np.stack([OBSERVATIONS["image"].sample() for _ in range(16)]), device=device)
    with torch.no_grad():
        low, high = (model.policy.values_of(model.policy.preprocess(images)) for model in (half, single))
    assert low.dtype is torch.float32
    torch.testing.assert_close(low, high, rtol=0.05, atol=0.02)
    assert not torch.equal(low, high)
    half.learn(64)
    assert {parameter.dtype for parameter in half.policy.parameters()} == {torch.float32}


@pytest.mark.parametrize("choice", ["float32", "bfloat16"])
def test_compiled_convolutions_do_what_eager_ones_do(choice: str) -> None:
    model = PPO("CnnPolicy", SpacesEnv("image", "discrete"), **SMALL, device="cpu", precision=choice).learn(64)
    data = model.rollout_buffer.tensors(tuple(MINIBATCH_FIELDS.values()))
    scalars = model.update.tensors_of({**model.scalars(), "learning_rate": 1e-3, "clip_range": 0.2})
    start, after, reports = copy.deepcopy(model.get_parameters()), [], []
    before = model.update.vector.weights.clone()
    for compiled in (False, True):
        model.set_parameters(start)
        model.update.use_compiled(compiled)
        reports.append(model.update(data, torch.arange(32), scalars, None))
        after.append(model.update.vector.weights.clone())
    exact = choice == "float32"
    torch.testing.assert_close(reports[0], reports[1], rtol=1e-3 if exact else 0.1, atol=1e-4 if exact else 0.02)
    moved = (after[0] - before).norm()
    assert moved > 0
    assert (after[0] - after[1]).norm() < (0.01 if exact else 0.6) * moved
