"""Networks that are no pure functions: tied weights, NumPy, old autograd functions, recomputed layers."""

import warnings
from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.utils.checkpoint import checkpoint

from rlspo import ARPO, PPO, SAC
from rlspo.common.errors import UnsupportedNetworkError
from tests.rollouts import give_rollout
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 1, "device": "cpu", "learning_rate": 1e-2}


class Extractor(BaseFeaturesExtractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space, space.shape[0])
        self.one, self.two = nn.Linear(*space.shape * 2), nn.Linear(*space.shape * 2)


class Tied(Extractor):
    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.two.weight = self.one.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.two(torch.tanh(self.one(inputs)))


class ThroughNumPy(Extractor):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        fixed = torch.as_tensor(np.tanh(self.one(inputs).detach().cpu().numpy()), device=inputs.device)
        return self.two(fixed)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * inputs

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * gradient


class OldFunction(Extractor):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return Doubled.apply(self.one(inputs))


class Recomputed(Extractor):
    reentrant = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.two, torch.tanh(self.one(inputs)), use_reentrant=self.reentrant)


class RecomputedOtherwise(Recomputed):
    reentrant = True


IMPURE = [ThroughNumPy, OldFunction, Recomputed, RecomputedOtherwise]


def made(agent: Any, extractor: type, **options: Any) -> Any:
    settings = {"features_extractor_class": extractor, "net_arch": [8]}
    return agent("MlpPolicy", SpacesEnv(), **{**SMALL, **options}, policy_kwargs=settings)


def one_update(extractor: type) -> tuple[Any, Any]:
    """An agent of ours and one of SB3's after one epoch on the same rollout in one minibatch."""
    options = {"n_epochs": 1, "batch_size": 32}
    ours, theirs = made(PPO, extractor, **options), made(sb3.PPO, extractor, **options)
    theirs.policy.load_state_dict(ours.policy.state_dict())
    ours.learn(32)
    theirs._setup_learn(32)
    give_rollout(ours, theirs)
    theirs.train()
    return ours, theirs


@pytest.mark.parametrize("extractor", [Tied, *IMPURE])
@pytest.mark.filterwarnings("ignore:The loss or the policy's networks hold")
def test_an_update_is_that_of_sb3(extractor: type) -> None:
    ours, theirs = one_update(extractor)
    for (name, got), expected in zip(ours.policy.named_parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("share", [True, False])
def test_tied_weights_stay_tied(share: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PPO(
            "MlpPolicy",
            SpacesEnv(),
            **SMALL,
            policy_kwargs={"features_extractor_class": Tied, "share_features_extractor": share},
        )
        update, before = model.update, model.policy.features_extractor.one.weight.detach().clone()
        model.learn(96)
    extractor = model.policy.features_extractor
    assert model.update is update, "nothing was replaced"
    assert extractor.one.weight is extractor.two.weight
    assert not torch.equal(before, extractor.one.weight)


def test_tied_weights_of_sac() -> None:
    options = {"learning_starts": 5, "batch_size": 8, "seed": 1, "device": "cpu"}
    settings = {"net_arch": [8], "features_extractor_class": Tied}
    model = SAC("MlpPolicy", SpacesEnv(), **options, policy_kwargs=settings).learn(12)
    for part in (model.actor, model.critic, model.critic_target):
        assert part.features_extractor.one.weight is part.features_extractor.two.weight


@pytest.mark.parametrize("extractor", IMPURE)
def test_it_is_said_once_that_autograd_is_slower(extractor: type) -> None:
    model = made(PPO, extractor)
    with pytest.warns(UserWarning, match="by autograd.*slower") as said:
        model.learn(96)
    assert len([one for one in said if "by autograd" in str(one.message)]) == 1


def test_where_compiling_was_asked_for() -> None:
    model = made(PPO, OldFunction, compile=True)
    with pytest.warns(UserWarning, match="setup_context.*cannot be compiled"):
        model.learn(32)
    assert not model.update.compiled
    model.learn(32)  # and not the next time either
    assert not model.update.compiled


@pytest.mark.parametrize("agent", [SAC, ARPO])
def test_what_cannot_be_trained_is_named(agent: Any) -> None:
    settings = {"features_extractor_class": OldFunction, "net_arch": [8]}
    options = {"learning_starts": 5} if agent is SAC else {"n_steps": 16, "n_epochs": 1}
    model = agent("MlpPolicy", SpacesEnv(), **options, batch_size=8, seed=1, device="cpu", policy_kwargs=settings)
    with pytest.raises(
        UnsupportedNetworkError, match=r"an autograd.Function without the method setup_context.*train with PPO"
    ):
        model.learn(32)


def test_an_error_of_the_network_itself_stays_what_it_is() -> None:
    class Fails(Extractor):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if self.training:
                raise RuntimeError("of my own")
            return inputs

    with pytest.raises(RuntimeError, match=r"^of my own"):
        made(PPO, Fails).learn(32)
