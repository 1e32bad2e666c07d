"""SPO and its search on a GPU; skipped where there is none."""

from __future__ import annotations

import warnings

import gymnasium as gym
import pytest
import torch

from rlspo import SPO
from rlspo.spo import Planner, search

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "rlspo/RubiksCube-v0"])
def test_it_learns_on_cuda(env_id):
    model = SPO("MlpPolicy", env_id, n_steps=16, batch_size=16, gradient_steps=2, device="cuda", compile=False, seed=0)
    before = model.update.vector.weights.clone()
    model.learn(64)
    assert model.device.type == "cuda"
    assert not torch.equal(before, model.update.vector.weights)


def test_a_search_of_an_array_form_waits_for_nothing_on_the_device():
    env = gym.make_vec("rlspo/RubiksCube-v0", num_envs=8)
    model = SPO("MlpPolicy", env, n_steps=4, batch_size=16, gradient_steps=1, device="cuda", compile=False, seed=0)
    seen = torch.as_tensor(model.env.reset(), device="cuda")
    planner = Planner(model, model.env, temperature=1.0, generator=torch.Generator("cuda").manual_seed(0))
    assert planner.simulator.device is not None
    assert planner.simulator.device.type == "cuda"

    def plan():
        given = planner.simulator, planner.simulator.capture(model.env), seen, planner.propose, planner.value
        torch.cuda.set_sync_debug_mode(mode)
        return search(*given, n_particles=16, depth=4, resample_period=2, generator=planner.generator)

    mode = "default"
    plan()
    mode = "warn"
    try:
        with warnings.catch_warnings(record=True) as caught, torch.inference_mode():
            warnings.simplefilter("always")
            plan()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not [one for one in caught if "synchronizing" in str(one.message)]
