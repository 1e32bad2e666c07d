"""Arguments of agents: written once in the base that has them, and shown, taken and documented by every subclass."""

from __future__ import annotations

import copy
import inspect
import re
import typing

import pytest
from stable_baselines3.common.utils import LinearSchedule

from rlspo import ARPO, BARPO, PDPPO, PPO, SAC, SPO
from rlspo.common.arguments import AgentSettings, OnPolicySettings
from rlspo.common.signatures import signature_of
from rlspo.ppo.settings import PPOSettings

TAIL = {
    "stats_window_size": 100,
    "tensorboard_log": None,
    "policy_kwargs": None,
    "verbose": 0,
    "seed": None,
    "device": "auto",
}
OF_PPO = {
    "learning_rate": 3e-4,
    "n_steps": 2048,
    "batch_size": 64,
    "n_epochs": 10,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": None,
    "normalize_advantage": True,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "use_sde": False,
    "sde_sample_freq": -1,
    "rollout_buffer_class": None,
    "rollout_buffer_kwargs": None,
    "target_kl": None,
    **TAIL,
    "normalize_observations": False,
    "normalize_rewards": False,
    "compile": "auto",
    "precision": "float32",
    "sequence_length": None,
    "burn_in": 0,
    "recompute_states": False,
    "acting_device": "auto",
}
OF_ARPO = {
    **OF_PPO,
    "learning_rate": LinearSchedule(3e-4, 0.0, 1.0),
    "normalize_observations": True,
    "normalize_rewards": True,
    "epsilon": 0.075,
    "epsilon_ramp": 0.75,
    "norm": "linf",
    "solver": "langevin",
    "adversary_steps": 10,
    "step_size": None,
    "temperature": 1e-5,
    "restarts": 5,
    "guidance": 0.0,
    "rollouts": "clean",
    "clip_to_space": False,
    "adversary_keys": None,
}
OF_PDPPO = {
    **OF_PPO,
    "normalize_rewards": True,
    "targets": "textbook",
    "advantage": "sum",
    "critics": "dual",
    "ratio": "component",
    "credit": "auto",
}
OF_SAC = {
    "learning_rate": 3e-4,
    "buffer_size": 1_000_000,
    "learning_starts": 100,
    "batch_size": 256,
    "tau": 0.005,
    "gamma": 0.99,
    "train_freq": 1,
    "gradient_steps": 1,
    "action_noise": None,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": None,
    "optimize_memory_usage": False,
    "n_steps": 1,
    "ent_coef": "auto",
    "target_update_interval": 1,
    "target_entropy": "auto",
    "use_sde": False,
    "sde_sample_freq": -1,
    "use_sde_at_warmup": False,
    **TAIL,
    "compile": "auto",
    "precision": "float32",
}
OF_SPO = {
    "learning_rate": 3e-4,
    "n_steps": 128,
    "batch_size": 256,
    "gradient_steps": 16,
    "replay_rollouts": 2,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "n_particles": 16,
    "depth": 4,
    "resample_period": 4,
    "ess_threshold": None,
    "resampling": "systematic",
    "as_published": False,
    "root_noise": 0.0,
    "root_alpha": 0.3,
    "temperature": "auto",
    "search_kl": 0.5,
    "policy_kl": None,
    "spread_kl": 5e-4,
    "dual_learning_rate": 1e-2,
    "tau": 0.02,
    "vf_coef": 1.0,
    "max_grad_norm": 0.5,
    **TAIL,
    "normalize_observations": False,
    "normalize_rewards": False,
    "compile": "auto",
    "precision": "float32",
}
AGENTS = {PPO: OF_PPO, ARPO: OF_ARPO, BARPO: OF_ARPO, PDPPO: OF_PDPPO, SAC: OF_SAC, SPO: OF_SPO}
SMALL = {"n_steps": 8, "batch_size": 8, "device": "cpu", "compile": False}


class Cautious(BARPO):
    """Bilevel, and cautious.

    :param caution: how much
    """

    def __init__(self, *args: typing.Any, caution: float = 0.5, **kwargs: typing.Any) -> None:
        self.caution = caution
        super().__init__(*args, **kwargs)


class Patient(ARPO):
    changed_defaults: typing.ClassVar[PPOSettings] = {"gamma": 0.5}


@pytest.mark.parametrize("agent", AGENTS)
def test_signature_has_all_arguments_in_order_with_their_defaults(agent):
    empty = inspect.Parameter.empty
    wanted = {"policy": empty, "env": empty, **AGENTS[agent], "_init_setup_model": True}
    parameters = inspect.signature(agent).parameters.values()
    assert [(one.name, repr(one.default)) for one in parameters] == [(key, repr(value)) for key, value in wanted.items()]
    assert {one.kind for one in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("agent", [*AGENTS, Cautious])
def test_help_has_each_argument_once(agent):
    for name in inspect.signature(agent).parameters:
        texts = re.findall(rf"^:param {name}:(.*)$", inspect.getdoc(agent), re.MULTILINE)
        assert len(texts) == (name != "_init_setup_model"), name
        assert all(text.strip() for text in texts)


def test_an_example_stays_behind_the_arguments():
    documented = inspect.getdoc(BARPO)
    assert documented.index(":param adversary_keys:") < documented.index("\n\n>>> from rlspo import BARPO")


@pytest.mark.parametrize(("settings", "agent"), [(AgentSettings, SAC), (OnPolicySettings, SPO), (PPOSettings, PPO)])
def test_names_and_types_for_editors_are_those_of_the_constructor(settings, agent):
    parameters = signature_of(agent).parameters
    hints = typing.get_type_hints(settings)
    assert hints == {name: parameters[name].annotation for name in hints}
    if settings is PPOSettings:
        assert set(hints) == set(OF_PPO)


def test_arguments_by_position_reach_the_base():
    agent = ARPO("MlpPolicy", "Pendulum-v1", 1e-4, 16, 8, 2, device="cpu", compile=False)
    assert (agent.learning_rate, agent.n_steps, agent.batch_size, agent.n_epochs) == (1e-4, 16, 8, 2)
    assert agent.normalize_rewards
    values = {**OF_ARPO, **SMALL, "normalize_rewards": False, "epsilon": 0.25}
    agent = BARPO("MlpPolicy", "Pendulum-v1", *values.values())
    assert (agent.epsilon, agent.normalize_rewards, agent.n_steps) == (0.25, False, 8)


@pytest.mark.parametrize("agent", AGENTS)
def test_unknown_names_are_refused(agent):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'lerning_rate'\. Did you mean 'learning_rate'\?"):
        agent("MlpPolicy", "Pendulum-v1", lerning_rate=1e-3)
    with pytest.raises(TypeError, match="multiple values for argument 'env'"):
        agent("MlpPolicy", "Pendulum-v1", env="Pendulum-v1")


def test_what_an_agent_leaves_out_of_its_base_it_refuses():
    with pytest.raises(TypeError, match="unexpected keyword argument 'use_sde'"):
        SPO("MlpPolicy", "CartPole-v1", use_sde=True)


def test_a_subclass_of_a_user_keeps_everything(tmp_path):
    assert list(inspect.signature(Cautious).parameters)[-1] == "caution"
    agent = Cautious("MlpPolicy", "Pendulum-v1", 1e-4, caution=0.25, epsilon=0.125, **SMALL)
    agent.save(tmp_path / "agent")
    loaded = Cautious.load(tmp_path / "agent", device="cpu")
    assert (loaded.caution, loaded.epsilon, loaded.n_steps) == (0.25, 0.125, 8)
    assert loaded.normalize_observations
    assert copy.deepcopy(loaded).epsilon == 0.125


def test_a_default_may_be_changed_without_a_constructor():
    assert inspect.signature(Patient).parameters["gamma"].default == 0.5
    agent = Patient("MlpPolicy", "Pendulum-v1", **SMALL)
    assert (agent.gamma, agent.normalize_rewards) == (0.5, True)
    assert Patient("MlpPolicy", "Pendulum-v1", gamma=0.75, **SMALL).gamma == 0.75


def test_a_default_before_the_arguments_of_the_base_is_no_error():
    class Odd(PPO):
        def __init__(self, caution: float = 0.5, *args: typing.Any, **kwargs: typing.Any) -> None:
            super().__init__(*args, **kwargs)

    assert inspect.signature(Odd).parameters["policy"].kind is inspect.Parameter.KEYWORD_ONLY
