"""ARPO and BARPO: limits in which they are something known, and what their losses do."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import configure_logger

from rlspo import ARPO, BARPO, PPO
from rlspo.adversary import PGD, Langevin, Solver
from rlspo.common.errors import UntrustedFileError
from rlspo.common.trees import to_tensor
from rlspo.common.update import MINIBATCH_FIELDS, gather
from rlspo.ppo import losses
from tests.spaces import SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 3, "seed": 5}
BASE: dict[str, Any] = {"learning_rate": 3e-4, "normalize_observations": True, "normalize_rewards": True}


def parameters(model: PPO) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def batch_and_hyper(model: Any, epsilon: float = 0.1) -> tuple[Any, dict[str, torch.Tensor]]:
    """A minibatch of the model's last rollout, with a radius of our choice."""
    scalars = {name: torch.tensor(value, device=model.device) for name, value in model.scalars().items()}
    scalars["epsilon"] = torch.tensor(epsilon, device=model.device)
    data = model.rollout_buffer.tensors(tuple(MINIBATCH_FIELDS.values()))
    rows = torch.arange(model.batch_size, device=model.device)
    return gather(data, rows, scalars, model.draw_noise(model.batch_size)), scalars


@pytest.mark.parametrize("agent", [ARPO, BARPO])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 7.0])
@pytest.mark.parametrize("action", ["box", "discrete"])
def test_epsilon_zero_is_ppo_exactly(agent: type[ARPO], guidance: float, action: str, device: str) -> None:
    reference = PPO("MlpPolicy", SpacesEnv("box", action), **SMALL, **BASE, device=device).learn(192)
    robust = agent("MlpPolicy", SpacesEnv("box", action), **SMALL, **BASE, device=device, epsilon=0, guidance=guidance).learn(
        192
    )
    assert torch.equal(parameters(reference), parameters(robust))


@pytest.mark.parametrize("agent", [ARPO, BARPO])
def test_growing_guidance_recovers_ppo(agent: type[ARPO]) -> None:
    reference = PPO("MlpPolicy", SpacesEnv(), **SMALL, **BASE).learn(192)
    robust = agent("MlpPolicy", SpacesEnv(), **SMALL, **BASE, epsilon=0.3, epsilon_ramp=0, guidance=1e7).learn(192)
    torch.testing.assert_close(parameters(robust), parameters(reference), rtol=1e-3, atol=1e-5)
    adversarial = agent("MlpPolicy", SpacesEnv(), **SMALL, **BASE, epsilon=0.3, epsilon_ramp=0, guidance=0).learn(192)
    assert (parameters(adversarial) - parameters(reference)).abs().max() > 1e-3


@pytest.mark.parametrize("agent", [ARPO, BARPO])
def test_vanishing_adversary_recovers_ppo(agent: type[ARPO]) -> None:
    """As the radius goes to zero, both surrogates become the clean one, whatever the guidance."""
    reference = PPO("MlpPolicy", SpacesEnv(), **SMALL, **BASE).learn(64)
    robust = agent("MlpPolicy", SpacesEnv(), **SMALL, **BASE, epsilon=1e-7, epsilon_ramp=0, guidance=0.5).learn(64)
    torch.testing.assert_close(parameters(robust), parameters(reference), rtol=1e-3, atol=1e-4)


def test_the_variants_differ_only_in_the_adversary_and_the_guidance() -> None:
    """The loss is the mix of the surrogates at the perturbed and the clean observation."""
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL, ent_coef=0.01, guidance=3.0, epsilon=0.2).learn(64)
    batch, scalars = batch_and_hyper(model)
    weights = dict(model.policy.named_parameters())
    loss, stats = model.loss(weights, batch)
    inputs = model.policy.preprocess(batch.observations)
    clean, values = model.policy.evaluate(weights, inputs)
    perturbed = model.perturb(model.adversary_objective(weights, batch, clean), inputs, scalars["epsilon"], batch.noise)
    attacked = model.policy.action_distribution(weights, perturbed)
    robust, natural = (-model.surrogate(distribution, batch)[0].mean() for distribution in (attacked, clean))
    expected = (
        (robust + 3 * natural) / 4
        + 0.5 * losses.value_loss(values, batch.returns, batch.old_values)
        - 0.01 * attacked.entropy().mean()
    )
    torch.testing.assert_close(loss, expected)
    assert float(stats["adversary/surrogate_gap"].detach()) == pytest.approx(float((robust - natural).detach()), abs=1e-6)
    assert float(stats["adversary/inner_kl"].detach()) == pytest.approx(float(clean.kl(attacked).mean().detach()), abs=1e-6)


def test_gradient_holds_the_inner_solution_fixed() -> None:
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL, guidance=0.0, epsilon=0.2).learn(64)
    batch, scalars = batch_and_hyper(model)
    weights = dict(model.policy.named_parameters())
    loss, _ = model.loss(weights, batch)
    gradient = torch.autograd.grad(loss, list(weights.values()))
    inputs = model.policy.preprocess(batch.observations)
    clean, values = model.policy.evaluate(weights, inputs)
    with torch.no_grad():
        perturbed = model.perturb(model.adversary_objective(weights, batch, clean), inputs, scalars["epsilon"], batch.noise)
    attacked = model.policy.action_distribution(weights, perturbed)
    by_hand = -model.surrogate(attacked, batch)[0].mean() + 0.5 * losses.value_loss(values, batch.returns, batch.old_values)
    for mine, theirs in zip(gradient, torch.autograd.grad(by_hand, list(weights.values())), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("solver", ["langevin", "pgd", "power"])
def test_arpo_lowers_the_surrogate_and_barpo_changes_the_policy_more(solver: str) -> None:
    """Each adversary is best at its own objective."""
    kwargs = {**SMALL, "batch_size": 64, "epsilon": 0.3, "solver": solver}
    arpo = ARPO("MlpPolicy", SpacesEnv(), **kwargs)
    with torch.no_grad():
        # A fresh policy hardly reacts to its observation, and Langevin noise then drowns the gradient.
        arpo.policy.action_net.weight.mul_(30)
    arpo.learn(64 * 4)
    barpo = BARPO("MlpPolicy", SpacesEnv(), **kwargs)
    barpo.set_parameters(arpo.get_parameters())
    batch, scalars = batch_and_hyper(arpo, 0.3)
    weights = {name: parameter.detach() for name, parameter in arpo.policy.named_parameters()}
    inputs = arpo.policy.preprocess(batch.observations)
    clean = arpo.policy.action_distribution(weights, inputs)
    at = {}
    for name, model in (("arpo", arpo), ("barpo", barpo)):
        found = arpo.perturb(model.adversary_objective(weights, batch, clean), inputs, scalars["epsilon"], batch.noise)
        distribution = arpo.policy.action_distribution(weights, found)
        at[name] = (float(arpo.surrogate(distribution, batch)[0].mean()), float(clean.kl(distribution).mean()))
    assert at["arpo"][0] < at["barpo"][0]
    assert at["barpo"][1] > at["arpo"][1]


@pytest.mark.parametrize("agent", [ARPO, BARPO])
@pytest.mark.parametrize("observation", ["box", "dict", "image"])
@pytest.mark.parametrize("rollouts", ["clean", "attacked"])
def test_trains_on_every_observation_and_logs_the_adversary(
    agent: type[ARPO], observation: str, rollouts: str, device: str
) -> None:
    env = SpacesEnv(observation, "discrete")
    options = {"rollouts": rollouts, "epsilon": 0.05, "epsilon_ramp": 0.0, "adversary_steps": 4, "clip_to_space": True}
    model = agent(policy_name(observation), env, **{**SMALL, "n_epochs": 1}, **options, device=device)
    model.set_logger(configure_logger(verbose=0))
    before = parameters(model).clone()
    recorded: dict[str, float] = {}
    model.logger.dump = lambda step=0: recorded.update(model.logger.name_to_value)  # type: ignore[method-assign]
    model.learn(192)
    assert torch.isfinite(parameters(model)).all()
    assert not torch.equal(before, parameters(model))
    assert {"adversary/inner_kl", "adversary/surrogate_gap", "adversary/gain_over_random_corner"} <= recorded.keys()
    assert recorded["adversary/inner_kl"] > 0
    assert recorded["train/epsilon"] == pytest.approx(0.05)


def test_radius_ramps_during_training() -> None:
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL, epsilon=0.4, epsilon_ramp=0.5)
    seen = []
    model.after_update = lambda data, scalars: seen.append(float(scalars["epsilon"]))  # type: ignore[method-assign]
    model.learn(64 * 8)
    np.testing.assert_allclose(seen, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4], atol=1e-6)


def test_attacked_rollouts_record_what_the_policy_saw(device: str) -> None:
    """Old log-probabilities are those of the perturbed observation, values those of the true one."""
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL, rollouts="attacked", epsilon=0.5, epsilon_ramp=0, device=device)
    _, callback = model._setup_learn(64)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, 64)
    buffer = model.rollout_buffer
    with torch.no_grad():
        inputs = model.policy.preprocess(to_tensor(buffer.flat("observations"), model.device))
        distribution, values = model.policy.evaluation_of(inputs)
        clean = distribution.log_prob(to_tensor(buffer.flat("actions"), model.device))
    np.testing.assert_allclose(values.cpu(), buffer.flat("values"), atol=1e-5)
    assert np.abs(clean.cpu().numpy() - buffer.flat("log_probs")).max() > 1e-3


@pytest.mark.parametrize(
    ("agent", "action", "options", "tolerance"),
    [
        (BARPO, "box", {}, 1e-3),
        (ARPO, "discrete", {}, 1e-3),
        (ARPO, "box", {"norm": "l2", "solver": "pgd", "guidance": 1.0}, 1e-5),
        (BARPO, "box", {"solver": "power", "restarts": 2, "rollouts": "attacked", "clip_to_space": True}, 1e-3),
    ],
    ids=["barpo-linf-langevin", "arpo-discrete-linf-langevin", "arpo-l2-pgd", "barpo-linf-power-attacked-rollouts"],
)
def test_compiled_equals_eager(agent: type[ARPO], action: str, options: dict[str, Any], tolerance: float, device: str) -> None:
    """The default search, ARPO's objective, both norms, and a restarted search in the rollouts too; each compiles once.

    Where signs and the choice among restarts break near-ties differently, the parameters may differ a little more.
    """
    kwargs = {**SMALL, "epsilon": 0.2, "epsilon_ramp": 0.0, "adversary_steps": 2, "device": device, **options}
    eager, compiled = (
        agent("MlpPolicy", SpacesEnv("box", action), compile=choice, **kwargs).learn(128) for choice in (False, True)
    )
    assert compiled.update.compiled and not eager.update.compiled
    start = parameters(agent("MlpPolicy", SpacesEnv("box", action), **kwargs))
    difference = (parameters(compiled) - parameters(eager)).norm() / (parameters(eager) - start).norm()
    assert difference < tolerance


def test_epsilon_on_a_discrete_observation_space() -> None:
    with pytest.raises(TypeError, match=r"Discrete\(4\) has no continuous .* epsilon=0"):
        BARPO("MlpPolicy", SpacesEnv("discrete"), **SMALL)
    BARPO("MlpPolicy", SpacesEnv("discrete"), **SMALL, epsilon=0).learn(64)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epsilon", -0.1, ValueError),
        ("epsilon", "0.1", TypeError),
        ("epsilon", float("nan"), ValueError),
        ("epsilon", True, TypeError),
        ("epsilon_ramp", 1.5, ValueError),
        ("guidance", -1, ValueError),
        ("norm", "l1", ValueError),
        ("solver", "fgsm", ValueError),
        ("solver", 3, TypeError),
        ("rollouts", "perturbed", ValueError),
        ("adversary_steps", 0, ValueError),
        ("restarts", 0, ValueError),
        ("step_size", "big", TypeError),
    ],
)
def test_bad_arguments_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{name} is {value!r}"):
        BARPO("MlpPolicy", SpacesEnv(), **SMALL, **{name: value})


def test_save_and_load_keep_the_adversary(tmp_path: Any) -> None:
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL, epsilon=0.2, guidance=0.5, solver="langevin").learn(64)
    model.save(tmp_path / "model")
    loaded = BARPO.load(tmp_path / "model", env=SpacesEnv())
    assert (loaded.epsilon, loaded.guidance, loaded.solver) == (0.2, 0.5, "langevin")
    assert torch.equal(parameters(loaded), parameters(model))
    loaded.learn(64)


def test_the_default_solver_is_the_papers() -> None:
    assert BARPO("MlpPolicy", SpacesEnv(), **SMALL).perturb.solver == Langevin(steps=10, step_size=None, temperature=1e-5)


@dataclass(frozen=True)
class Jump(Solver):
    """One step of the full radius from the true input: Goodfellow et al.'s fast gradient sign method where there is one."""

    steps: int = 1

    def __call__(self, objective: Any, clean: Any, ball: Any, noise: Any) -> Any:
        inputs = clean
        for _ in range(self.steps):
            inputs = ball.shift(clean, ball.steepest(torch.func.grad(lambda x: objective(x).sum())(inputs)))
        return inputs


OWN: dict[str, Any] = {"epsilon": 0.2, "epsilon_ramp": 0, "n_epochs": 1}


@pytest.mark.parametrize("solver", [PGD, PGD(steps=4, step_size=0.5)])
def test_a_solver_may_be_a_name_a_class_or_an_object(solver: Any) -> None:
    kwargs = {**SMALL, **OWN, "adversary_steps": 4, "step_size": 0.5}
    named, given = (ARPO("MlpPolicy", SpacesEnv(), **kwargs, solver=each).learn(64) for each in ("pgd", solver))
    assert torch.equal(parameters(named), parameters(given))


@pytest.mark.parametrize("solver", [Jump, Jump(2)])
def test_a_solver_of_your_own_trains_and_is_saved(solver: Any, tmp_path: Any) -> None:
    """Files name its class, which is found where it is imported; a class gets ``adversary_steps``."""
    kwargs = {**SMALL, **OWN, "adversary_steps": 2, "solver": solver}
    model = ARPO("MultiInputPolicy", SpacesEnv("dict", "discrete"), **kwargs).learn(64)
    assert model.perturb.solver == Jump(2)
    model.save(tmp_path / "model")
    loaded = ARPO.load(tmp_path / "model", env=SpacesEnv("dict", "discrete"))
    assert loaded.solver == solver and loaded.perturb.solver == Jump(2)
    for each in (model, loaded):
        each.set_random_seed(3)
        each.learn(64)
    assert torch.equal(parameters(model), parameters(loaded))


@pytest.mark.usefixtures("files_of_others")
def test_a_solver_that_a_file_holds_as_code_is_not_run(tmp_path: Any) -> None:
    """The agent acts; it learns once it is given a solver, or the file is trusted."""

    class Local(Jump):
        pass

    model = BARPO("MlpPolicy", SpacesEnv(), **{**SMALL, **OWN}, solver=Local)
    model.save(tmp_path / "model")
    loaded = BARPO.load(tmp_path / "model", env=SpacesEnv(), guidance=1.0)
    loaded.predict(SpacesEnv().observation_space.sample())
    with pytest.raises(UntrustedFileError, match=r"its file holds solver as pickled code.*solver=\.\.\."):
        loaded.learn(64)
    assert BARPO.load(tmp_path / "model", env=SpacesEnv(), solver="pgd", adversary_steps=2).learn(64).perturb.solver == PGD(2)
    assert type(BARPO.load(tmp_path / "model", trust=True).perturb.solver).__name__ == "Local"


class OneStepBandit(gym.Env[np.ndarray, np.ndarray]):
    """Reward is higher the nearer the action is to the sign of the first observation; the second is a distractor."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.target = self.np_random.choice([-1.0, 1.0])
        return np.array([self.target * 0.8, self.np_random.normal(0, 0.05)], np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = -abs(float(action[0]) - self.target)
        return np.zeros(2, np.float32), reward, True, False, {}


def test_barpo_learns_a_policy_that_perturbations_move_less_than_ppos() -> None:
    """Same return on the true observations, and a smaller worst-case change of the policy. Half the steps would not do for
    every seed."""
    kwargs = {"n_steps": 32, "batch_size": 64, "n_epochs": 5, "seed": 0, "device": "cpu", "learning_rate": 1e-3}
    radius = torch.tensor(0.7)
    change, reward = {}, {}
    for name, agent, options in (
        ("ppo", PPO, {"normalize_observations": True, "normalize_rewards": True}),
        ("barpo", BARPO, {"epsilon": 0.7, "epsilon_ramp": 0.3, "guidance": 0.0}),
    ):
        env = make_vec_env(OneStepBandit, n_envs=8, seed=0)
        model = agent("MlpPolicy", env, **kwargs, **options).learn(20_000)
        observations = np.array([[0.8, 0.0], [-0.8, 0.0]] * 16, np.float32)
        actions, _ = model.predict(observations, deterministic=True)
        reward[name] = float(np.mean(np.abs(actions[:, 0] - np.sign(observations[:, 0]))))
        probe = model if name == "barpo" else BARPO("MlpPolicy", OneStepBandit(), **{**kwargs, "n_steps": 64})
        with torch.no_grad():
            inputs = model.policy.preprocess(torch.as_tensor(observations))
            clean = model.policy.distribution_of(inputs)
            weights = dict(model.policy.named_parameters())
            worst = probe.perturb(
                lambda x, m=model, c=clean, w=weights: c.kl(m.policy.action_distribution(w, x)),
                inputs,
                radius,
                probe.perturb.draw(inputs, torch.Generator().manual_seed(0)),
            )
            change[name] = float((model.policy.distribution_of(worst).mean - clean.mean).abs().mean())
    assert max(reward.values()) < 0.3
    assert change["barpo"] < 0.7 * change["ppo"], change


@pytest.mark.parametrize("compile", [False, True])
def test_statistics_keep_their_names_when_the_ball_opens_and_closes(compile: bool) -> None:
    model = ARPO("MlpPolicy", "Pendulum-v1", **SMALL, epsilon=0.0, epsilon_ramp=0.0, adversary_steps=1, compile=compile)
    for epsilon in (0.0, 0.1, 0.0):
        model.epsilon = epsilon
        model.learn(64)
        found = model.logger.name_to_value
        assert found["train/value_loss"] > 0.01
        assert found["train/entropy_loss"] < -1
        assert ("adversary/inner_kl" in found) == (epsilon > 0)


@pytest.mark.parametrize("change", ["loaded", "layer"])
def test_attacked_rollouts_attack_the_weights_that_act(change: str) -> None:
    """Also where they were put there from outside."""
    attacked = []

    class Watched(BARPO):
        def make_actor(self) -> Any:
            named = self.update.vector.named(self.update.vector.weights)
            attacked.append(all(torch.equal(named[name], part) for name, part in self.policy.named_parameters()))
            return super().make_actor()

    options: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 0, "device": "cpu", "compile": False}
    model = Watched("MlpPolicy", "Pendulum-v1", **options, rollouts="attacked").learn(32)
    policy = model.policy
    if change == "layer":
        policy.action_net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 1))
        policy.optimizer.add_param_group({"params": [*policy.action_net.parameters()]})
    else:
        policy.load_from_vector(policy.parameters_to_vector() * 3)
    model.learn(32, reset_num_timesteps=False)
    assert attacked == [True, True]
