"""The whole-update function against clipping and optimiser steps as torch does them; the KL stop; the compiled path."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import configure_logger
from torch import nn

from rlspo import PPO
from rlspo.common.update import Minibatch, Parameters, Update, gather
from tests.spaces import SpacesEnv

Tensor = torch.Tensor
ROWS, SIZE = 24, 8
FIELDS = ("observations", "actions", "values", "log_probs", "advantages", "returns")


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).to(device)


def rollout(device: str) -> dict[str, Tensor]:
    """``advantages`` serve as each row's contribution to approx_kl."""
    generator = torch.Generator().manual_seed(1)
    data = {name: torch.randn(ROWS, generator=generator).to(device) for name in FIELDS}
    data["observations"] = torch.randn(ROWS, 3, generator=generator).to(device)
    data["advantages"] = torch.zeros(ROWS, device=device)
    return data


def orders(n: int) -> list[Tensor]:
    random = np.random.default_rng(0)
    return [torch.as_tensor(random.permutation(ROWS)[:SIZE]) for _ in range(n)]


def regression(module: nn.Module) -> Any:
    def loss(parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        output = torch.func.functional_call(module, parameters, (batch.observations,)).squeeze(-1)
        shift = 0 if batch.noise is None else batch.noise
        error = (output - batch.returns - shift).square().mean() * batch.scalars["weight"]
        return error, {"error": error, "approx_kl": batch.advantages.mean()}

    return loss


def make(device: str, optimizer: Any = torch.optim.Adam, target_kl: float | None = None, limit: float = 0.5) -> Update:
    module = network(device)
    return Update(regression(module), module, optimizer(module.parameters(), lr=1e-2), limit, target_kl)


def scalars(device: str, rate: float = 1e-2, weight: float = 1.0) -> dict[str, Tensor]:
    return {"learning_rate": torch.tensor(rate, device=device), "weight": torch.tensor(weight, device=device)}


def parameters_of(update: Update) -> Tensor:
    return update.vector.weights.clone()


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
@pytest.mark.parametrize("limit", [0.05, 1e9])
def test_steps_equal_torch(optimizer: Any, limit: float, device: str) -> None:
    """Gradient, clipping of its whole norm and step, with a learning rate and a weight that change on the way."""
    update, reference, data = make(device, optimizer, limit=limit), network(device), rollout(device)
    theirs = optimizer(reference.parameters(), lr=1e-2)
    for step, indices in enumerate(orders(10)):
        rate, weight = 1e-2 / (1 + step), 1.0 + step
        report = update(data, indices.to(device), scalars(device, rate, weight), None)
        theirs.param_groups[0]["lr"] = rate
        output = reference(data["observations"][indices]).squeeze(-1)
        loss = weight * (output - data["returns"][indices]).square().mean()
        theirs.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), limit)
        theirs.step()
        assert float(report[0]) == pytest.approx(loss.item(), rel=1e-4)
        assert float(report[1 + update.stat_names.index("error")]) == pytest.approx(loss.item(), rel=1e-4)
        assert report[-1] == 1
    expected = torch.cat([parameter.detach().flatten() for parameter in reference.parameters()])
    torch.testing.assert_close(update.vector.weights, expected, rtol=1e-4, atol=1e-6)


def kl_data(device: str, kl: list[float]) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Data and minibatches of which number i has ``approx_kl`` kl[i]."""
    data = rollout(device)
    indices = [torch.arange(SIZE, device=device) + SIZE * i for i in range(len(kl))]
    for rows, value in zip(indices, kl, strict=True):
        data["advantages"][rows] = value
    return data, indices


def state_of(update: Update) -> list[Tensor]:
    flat = update.vector
    return [tensor.clone() for tensor in (flat.weights, flat.first_moment, flat.second_moment, flat.steps)]


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize("over", [0.16, float("nan"), float("inf")])
def test_kl_stop_leaves_later_minibatches_without_effect(optimizer: Any, over: float, device: str) -> None:
    update = make(device, optimizer, target_kl=0.1)
    data, (first, second, third) = kl_data(device, [0.149, over, 0.0])
    start = parameters_of(update)
    update.begin()
    reports = [update(data, first, scalars(device), None)]
    after_first = state_of(update)
    moments = str(update.optimizer.state_dict()["state"])
    assert not torch.equal(after_first[0], start)
    reports += [update(data, rows, scalars(device), None) for rows in (second, third, first)]
    assert all(torch.equal(old, new) for old, new in zip(after_first, state_of(update), strict=True))
    assert str(update.optimizer.state_dict()["state"]) == moments
    assert not update.active
    # The minibatch that went over the limit is reported, like in SB3; those after it are marked.
    assert [float(report[-1]) for report in reports] == [1.0, 1.0, 0.0, 0.0]

    update.begin()
    assert update(data, third, scalars(device), None)[-1] == 1
    assert not torch.equal(parameters_of(update), after_first[0])


def test_without_a_limit_nothing_stops(device: str) -> None:
    update = make(device)
    data, (first, second, third) = kl_data(device, [5.0, 50.0, float("nan")])
    for rows in (first, second, third):
        before = parameters_of(update)
        assert update(data, rows, scalars(device), None)[-1] == 1
        assert not torch.equal(parameters_of(update), before)


def test_rows_noise_and_extra_fields_reach_the_loss(device: str) -> None:
    data: dict[str, Any] = {
        **rollout(device),
        "observations": {"a": torch.arange(ROWS, device=device), "b": torch.arange(2 * ROWS, device=device).view(ROWS, 2)},
        "roots": torch.arange(ROWS, device=device) * 10,
    }
    indices = torch.tensor([5, 0, 5], device=device)
    batch = gather(data, indices, scalars(device), noise={"start": 3})
    assert batch.observations["a"].tolist() == [5, 0, 5]
    assert batch.observations["b"].tolist() == [[10, 11], [0, 1], [10, 11]]
    assert torch.equal(batch.old_values, data["values"][indices])
    assert torch.equal(batch.old_log_prob, data["log_probs"][indices])
    assert torch.equal(batch.returns, data["returns"][indices])
    assert set(batch.extra) == {"roots"}
    assert batch.extra["roots"].tolist() == [50, 0, 50]
    assert batch.noise == {"start": 3}

    quiet, noisy = make(device), make(device)
    plain = rollout(device)
    for update, noise in ((quiet, None), (noisy, torch.full((SIZE,), 2.0, device=device))):
        update(plain, torch.arange(SIZE, device=device), scalars(device), noise)
    assert not torch.equal(parameters_of(quiet), parameters_of(noisy))


def agent(**kwargs: Any) -> PPO:
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0, "device": "cpu"}
    return PPO("MlpPolicy", SpacesEnv(), **{**options, **kwargs})


def test_frozen_parameters_stay_as_they_are() -> None:
    """``requires_grad_(False)`` keeps a part of a policy out of the update, as with SB3's own agents."""
    model = agent()
    model.policy.mlp_extractor.policy_net.requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in model.policy.named_parameters()}
    model.learn(32)
    changed = {name for name, parameter in model.policy.named_parameters() if not torch.equal(before[name], parameter)}
    assert "action_net.weight" in changed
    assert not any(name.startswith("mlp_extractor.policy_net") for name in changed)


def test_optimizer_is_stepped_once_per_minibatch() -> None:
    model = agent().learn(64)
    state = model.get_parameters()["policy.optimizer"]["state"]
    assert {float(entry["step"]) for entry in state.values()} == {2 * 2 * 2}


def test_compiled_equals_eager(device: str) -> None:
    """One compilation serves all learning rates and clip ranges, and gives the eager numbers, the stop included."""
    eager, compiled = agent(target_kl=0.03, device=device), agent(target_kl=0.03, device=device)
    for model in (eager, compiled):
        model.set_logger(configure_logger(verbose=0))
    compiled.update.use_compiled(True)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    _, callback = eager._setup_learn(32)
    eager.collect_rollouts(eager.env, callback, eager.rollout_buffer, 32)
    for name, value in eager.rollout_buffer.data.items():
        compiled.rollout_buffer.data[name][:] = value
    order = [np.random.default_rng(i).permutation(32).reshape(2, 16) for i in range(2)]
    start = eager.update.vector.weights.clone()
    reports: dict[str, list[Tensor]] = {}
    for name, model in (("eager", eager), ("compiled", compiled)):
        data = model.rollout_buffer.tensors(FIELDS)
        reports[name] = []
        model.update.begin()
        for epoch, rows in enumerate(np.concatenate(order * 4)):
            changed = {"learning_rate": 3e-3 / (1 + epoch), "clip_range": 0.2 - 0.01 * epoch}
            scalars = model.update.tensors_of({**model.scalars(), **changed})
            reports[name].append(model.update(data, torch.as_tensor(rows, device=device), scalars, None))
    got, expected = torch.stack(reports["compiled"]), torch.stack(reports["eager"])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(compiled.update.vector.weights, eager.update.vector.weights, rtol=1e-4, atol=1e-5)
    assert (eager.update.vector.weights - start).abs().max() > 1e-3
    assert expected[0, -1] == 1
    assert counters["stats"]["unique_graphs"] == 1
