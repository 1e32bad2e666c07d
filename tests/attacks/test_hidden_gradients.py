"""No part of a policy hides from an adversary: what stops gradients while learning lets a search for inputs through."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch

from rlspo import BARPO, PPO
from rlspo.adversary import PGD, Langevin, Perturbation, RandomCorner, Solver, kl_to_clean
from rlspo.attacks import Attack, CriticAttack, MADAttack, attacked_evaluation
from rlspo.attacks.evaluation import ball_of_training
from rlspo.common.gradients import searching_inputs, stop_gradient
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 1, "seed": 0, "device": "cpu"}


def found(policy: Any, objective: Any, inputs: Any, solver: Solver, radius: float) -> Any:
    perturb = Perturbation(policy.preprocess, policy.observation_space, solver)
    noise = perturb.draw(inputs, torch.Generator().manual_seed(0))
    return perturb(objective, inputs, torch.tensor(radius), noise)


@pytest.mark.parametrize("gate", ["observation", "latent"])
def test_an_attack_changes_which_expert_acts(gate: str) -> None:
    """The experts are the same everywhere, and the gate is near its switch: only through the gate can actions change."""
    model = PPO("MoeMlpPolicy", "Pendulum-v1", **SMALL, policy_kwargs={"n_experts": 2, "gate": gate, "net_arch": []})
    policy: Any = model.policy
    with torch.no_grad():
        policy.gate_net[0].weight.copy_(torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, -5.0]]))
        policy.gate_net[0].bias.zero_()
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(torch.tensor([-2.0, 2.0]))
    inputs = torch.tensor([[1.0, 0.0, 0.05]]).expand(32, 3)
    shown = found(policy, MADAttack().objective(policy, inputs), inputs, MADAttack().solver_for(policy), 0.075)
    moved = policy.distribution_of(shown).best_expert() != policy.distribution_of(inputs).best_expert()
    # The KL divergence grows to both sides of the switch, so a search that starts beyond the top of it stays there.
    assert moved.float().mean() > 0.3
    assert (shown[:, 2] - 0.05).abs().min() > 0.9 * 0.075


def test_the_value_is_attacked_through_a_memory_that_it_shares() -> None:
    kwargs = {"shared_lstm": True, "enable_critic_lstm": False, "lstm_hidden_size": 16}
    policy: Any = PPO("MlpLstmPolicy", "Pendulum-v1", **SMALL, policy_kwargs=kwargs).policy
    inputs = policy.preprocess(torch.randn(32, 3, generator=torch.Generator().manual_seed(0)))
    attack = CriticAttack()
    shown = found(policy, attack.objective(policy, inputs), inputs, attack.solver_for(policy), 0.1)
    assert policy.values_of(shown).mean() < policy.values_of(inputs).mean() - 1e-3
    assert (shown["observation"] - inputs["observation"]).abs().mean() > 0.09, "PGD ends in the corners of the ball"


def test_the_spread_of_gsde_is_attacked() -> None:
    """At first the mean hardly depends on the observation, and the divergence is that of the spreads."""
    policy: Any = PPO("MlpPolicy", "Pendulum-v1", **SMALL, use_sde=True).policy
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        objective = kl_to_clean(policy.distribution_of, policy.distribution_of(inputs))
        strongest, aimless = (
            objective(found(policy, objective, inputs, one, 0.1)).mean() for one in (PGD(10), RandomCorner())
        )
    assert strongest > 1.5 * aimless


def test_while_learning_gradients_stop() -> None:
    x = torch.ones(2, requires_grad=True)
    assert not stop_gradient(x).requires_grad
    with searching_inputs():
        assert stop_gradient(x).requires_grad
    assert not stop_gradient(x).requires_grad


def test_barpo_with_a_mixture_compiles_with_the_whole_gradient() -> None:
    """Compiled and eager updates search alike."""
    made = [
        BARPO("MoeMlpPolicy", "Pendulum-v1", **SMALL, compile=compile, epsilon=0.3, epsilon_ramp=0.0, adversary_steps=2).learn(
            64
        )
        for compile in (False, True)
    ]
    for mine, other in zip(*(model.policy.parameters() for model in made), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_mad_searches_images_without_the_noise_that_drowns_their_gradients() -> None:
    model = PPO("CnnPolicy", SpacesEnv("image", "discrete"), **SMALL)
    policy: Any = model.policy
    with torch.no_grad():
        policy.action_net.weight.mul_(100)
    inputs = policy.preprocess(torch.as_tensor(np.stack([model.observation_space.sample() for _ in range(16)])))
    attack = MADAttack()
    assert isinstance(attack.solver_for(policy), PGD)
    with torch.no_grad():
        objective = attack.objective(policy, inputs)
        mad, aimless = (
            objective(found(policy, objective, inputs, one, 4 / 255)).mean()
            for one in (attack.solver_for(policy), RandomCorner())
        )
    assert mad > 10 * aimless


def test_what_an_attack_shows_of_an_image_is_one() -> None:
    policy: Any = PPO("CnnPolicy", SpacesEnv("image", "discrete"), **SMALL).policy
    for level in (0, 255):
        inputs = policy.preprocess(torch.full((2, 3, 36, 36), level, dtype=torch.uint8))
        shown = found(policy, CriticAttack().objective(policy, inputs), inputs, PGD(3), 8 / 255)
        assert shown.min() >= 0
        assert shown.max() <= 1
        assert not torch.equal(shown, inputs)


def test_the_ball_is_that_of_training() -> None:
    robust = BARPO("MlpPolicy", "Pendulum-v1", **SMALL, norm="l2", clip_to_space=True)
    assert ball_of_training(robust) == {"norm": "l2", "clip_to_space": True, "keys": None}
    assert ball_of_training(robust, "linf", False) == {"norm": "linf", "clip_to_space": False, "keys": None}
    plain = PPO("MlpPolicy", "Pendulum-v1", **SMALL)
    assert ball_of_training(plain) == {"norm": "linf", "clip_to_space": False, "keys": None}
    same = attacked_evaluation(robust, "Pendulum-v1", "critic", 2.0, 2, norm="l2", clip_to_space=True)
    assert np.array_equal(attacked_evaluation(robust, "Pendulum-v1", "critic", 2.0, 2), same)
    assert not np.array_equal(attacked_evaluation(robust, "Pendulum-v1", "critic", 2.0, 2, norm="linf"), same)


def test_an_agent_of_sb3_with_separate_features_is_attacked_with_its_own() -> None:
    class Own(stable_baselines3.common.torch_layers.BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, 8)
            self.layer = torch.nn.Linear(3, 8)

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.layer(observations))

    kwargs = {"features_extractor_class": Own, "share_features_extractor": False}
    for library in (stable_baselines3.PPO, PPO):
        model = library("MlpPolicy", "Pendulum-v1", **SMALL, policy_kwargs=kwargs)
        seen: list[Any] = []

        class Look(Attack):
            def objective(self, policy: Any, inputs: Any) -> Any:
                seen.append((inputs, policy.distribution_of(inputs).mode()))  # noqa: B023
                return lambda perturbed: torch.zeros(len(perturbed))

        attacked_evaluation(model, "Pendulum-v1", Look("random"), 0.0, 1)
        inputs, modes = seen[0]
        expected, _ = model.predict(inputs.numpy(), deterministic=True)
        assert np.allclose(modes.clamp(-2, 2).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("solver", ["pgd", PGD, PGD(3)])
@pytest.mark.parametrize("kind", [MADAttack, CriticAttack])
def test_a_solver_is_a_name_a_class_or_an_object(kind: Any, solver: Any) -> None:
    attack = kind(steps=3, solver=solver)
    assert attack.solver == PGD(3)
    assert attack.solver_for(PPO("MlpPolicy", "Pendulum-v1", **SMALL).policy) == PGD(3)
    assert MADAttack().solver == Langevin(10, temperature=1.0)


def test_an_empty_choice_of_keys_is_refused_and_not_replaced() -> None:
    plain = PPO("MlpPolicy", "Pendulum-v1", **SMALL)
    with pytest.raises(ValueError, match=r"adversary_keys is \[\]"):
        attacked_evaluation(plain, "Pendulum-v1", "critic", 0.1, 1, adversary_keys=[])
    with pytest.raises(ValueError, match="norm is ''"):
        attacked_evaluation(plain, "Pendulum-v1", "critic", 0.1, 1, norm="")
