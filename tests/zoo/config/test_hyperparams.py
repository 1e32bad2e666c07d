"""The files of hyperparameters fit the agents, and a file that does not is explained before anything runs."""

from pathlib import Path

import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from rlspo import BARPO, PPO
from rlspo.common.registry import agent_class
from rlspo.common.sequences import Sequences
from rlspo.policies.recurrent import LSTM_POLICIES
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.hyperparams import choose_block, find_file, other_versions, resolve
from rlspo.zoo.errors import UserError

OWN = ("ppo", "arpo", "barpo", "pdppo", "sac", "spo")
ENVS = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5", "Pendulum-v1", "CartPole-v1")

PLANNED = {"CartPole-v1", "Pendulum-v1", "rlspo/RubiksCube-v0", "rlspo/Sokoban-v0", "HalfCheetah-v5", "Hopper-v5"}


def blocks_of(algo: str) -> dict:
    return yaml_io.read_mapping(find_file(algo, agent_class(algo)))


def resolved(block: str | dict, env_id: str = "CartPole-v1", cls=PPO, **overrides):
    """Resolve a block written as YAML."""
    text = block if isinstance(block, str) else ""
    file = Path("mine.yml")
    file.write_text(f"CartPole-v1: {{n_timesteps: 1e3, policy: MlpPolicy, {text}}}\n")
    return resolve(cls, file, env_id, (), {key: (value, "-params") for key, value in overrides.items()})


@pytest.mark.parametrize("algo", OWN)
def test_every_own_block_fits_its_agent_and_says_where_it_comes_from(algo):
    cls, file = agent_class(algo), find_file(algo, agent_class(algo))
    blocks = blocks_of(algo)
    own = {"pdppo": {"rlspo/LotSizing-v0"}, "sac": {*ENVS} - {"CartPole-v1"}, "spo": PLANNED}
    expected = own.get(algo, {*ENVS, "atari"})
    assert {*expected, "default"} <= set(blocks)
    assert file.read_text().count("\n  provenance:") == len(blocks), "a provenance was inherited from another block"
    for name in blocks:
        found = resolve(cls, file, name, (), {})
        assert found.block == name
        assert len(found.settings.provenance) > 20
        rollout = found.settings.n_envs * found.agent.get("n_steps", 2048)
        assert rollout % found.agent.get("batch_size", 64) == 0


@pytest.mark.parametrize("algo", ["ppo", "barpo"])
def test_every_block_with_memory_fits_its_agent_and_cuts_whole_sequences(algo):
    file = find_file(algo, agent_class(algo), Path(f"{algo}_lstm.yml"))
    blocks = yaml_io.read_mapping(file)
    assert file.read_text().count("\n  provenance:") == len(blocks)
    for name in blocks:
        found = resolve(agent_class(algo), file, name, (), {})
        assert found.policy in LSTM_POLICIES
        given = {"n_steps": 2048, "batch_size": 64, **found.agent}
        assert Sequences(None, given["n_steps"], found.settings.n_envs, given["batch_size"]).length >= 32


@pytest.mark.parametrize("algo", ["ppo", "barpo", "sac"])
def test_every_block_with_a_mixture_is_the_agents_own_with_experts(algo):
    file = find_file(algo, agent_class(algo), Path(f"{algo}_moe.yml"))
    blocks, own = yaml_io.read_mapping(file), blocks_of(algo)
    assert file.read_text().count("\n  provenance:") == len(blocks)
    for name, block in blocks.items():
        assert resolve(agent_class(algo), file, name, (), {}).policy == "MoeMlpPolicy"
        plain = {key: value for key, value in block.items() if key not in ("provenance", "policy", "policy_kwargs")}
        assert plain == {key: own[name][key] for key in own[name] if key not in ("provenance", "policy", "policy_kwargs")}
        assert {**own[name].get("policy_kwargs", {})}.items() <= block.get("policy_kwargs", {}).items()


@pytest.mark.parametrize("algo", ["arpo", "barpo"])
def test_radii_are_those_of_the_papers(algo):
    radii = {name: blocks_of(algo)[name]["epsilon"] for name in ENVS[:5]}
    expected = {"Hopper": 0.075, "Walker2d": 0.05, "HalfCheetah": 0.15, "Ant": 0.15, "Humanoid": 0.075}
    assert radii == {f"{name}-v5": radius for name, radius in expected.items()}


def test_robust_agents_share_the_substrate_of_ppo():
    for name in ENVS[:5]:
        ppo, arpo, barpo = ({**blocks_of(algo)[name], "provenance": ""} for algo in ("ppo", "arpo", "barpo"))
        assert arpo == {**barpo, "guidance": 1.0}
        assert ppo == {key: value for key, value in barpo.items() if key != "epsilon"}


def test_pdppo_and_ppo_differ_in_lot_sizing_by_exploration_credit_and_critics():
    ppo, pdppo = ({**blocks_of(algo)["rlspo/LotSizing-v0"]} for algo in ("ppo", "pdppo"))
    different = {key for key in {*ppo, *pdppo} if ppo.get(key) != pdppo.get(key)}
    # PDPPO scales rewards by default.
    assert different == {"credit", "ent_coef", "policy_kwargs", "normalize_rewards", "provenance"}
    assert ppo["policy_kwargs"]["net_arch"] == pdppo["policy_kwargs"]["net_arch"]


def test_own_block_then_its_family_then_default():
    blocks = {"ALE/Pong-v5": {}, "atari": {}, "default": {}}
    assert choose_block(Path("f"), blocks, "ALE/Pong-v5", families=["atari"]) == "ALE/Pong-v5"
    assert choose_block(Path("f"), blocks, "ALE/Tennis-v5", families=["atari"]) == "atari"
    assert choose_block(Path("f"), blocks, "CartPole-v1", families=[]) == "default"
    with pytest.raises(UserError, match="neither a block 'CartPole-v1' nor a block 'default'; its blocks: A-v1"):
        choose_block(Path("f"), {"A-v1": {}}, "CartPole-v1", families=[])


def test_other_versions_of_an_environment():
    assert other_versions({"Hopper-v5": {}, "Ant-v5": {}, "default": {}}, "Hopper-v4") == ["Hopper-v5"]


def test_users_file_comes_first_and_a_package_brings_its_own(workplace, monkeypatch):
    package = workplace / "elsewhere"
    (package / "hyperparams").mkdir(parents=True)
    (package / "__init__.py").write_text("from rlspo import PPO\nclass Cautious(PPO):\n    pass\n")
    brought = package / "hyperparams" / "cautious.yml"
    brought.write_text("default: {n_timesteps: 1e3, policy: MlpPolicy}\n")
    monkeypatch.syspath_prepend(str(workplace))
    from elsewhere import Cautious

    assert find_file("cautious", Cautious).samefile(brought)
    mine = workplace / "mine.yml"
    mine.write_text("{}")
    assert find_file("cautious", Cautious, mine) == mine
    assert find_file("ppo", PPO, mine) == mine
    assert find_file("ppo", PPO, Path("ppo_lstm.yml")).name == "ppo_lstm.yml"  # by its name alone, it comes with the package
    with pytest.raises(UserError, match=r"--conf-file: there is no file .*ppo_lstm\.yml"):
        find_file("ppo", PPO, Path("elsewhere") / "ppo_lstm.yml")
    with pytest.raises(UserError, match=r"'other' has no hyperparameters .*other\.yml.* --conf-file"):
        find_file("other", Cautious)
    with pytest.raises(UserError, match=r"--conf-file: there is no file .*gone\.yml"):
        find_file("ppo", PPO, Path("gone.yml"))


def test_an_agent_in_a_module_alone(workplace, monkeypatch):
    (workplace / "alone.py").write_text("from rlspo import PPO\nclass Cautious(PPO):\n    pass\n")
    monkeypatch.syspath_prepend(str(workplace))
    from alone import Cautious

    assert find_file("alone.Cautious", Cautious) is None
    with pytest.raises(UserError, match=r"'cautious' has no hyperparameters .*cautious\.yml"):
        find_file("cautious", Cautious)
    beside = workplace / "hyperparams" / "cautious.yml"
    beside.parent.mkdir()
    beside.write_text("default: {n_timesteps: 1e3, policy: MlpPolicy}\n")
    assert find_file("cautious", Cautious).samefile(beside)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("lerning_rate: 1e-3", r"there is no key 'lerning_rate'. Did you mean 'learning_rate'\?"),
        ("n_env: 2", r"there is no key 'n_env'. Did you mean 'n_envs'\?"),
        ("n_steps: many", "n_steps is 'many', but must be a whole number"),
        ("n_envs: 0", "n_envs is 0, but must be a whole number above 0"),
        ("n_envs: 2.5", "n_envs is 2.5, but must be a whole number"),
        ("frame_stack: four", "frame_stack is 'four'"),
        ("env_wrapper: 3", "env_wrapper is 3"),
        ("policy_kwargs: 'dict(net_arch=sizes(8))'", r"Of Python only literals are read, .*'sizes\(8\)' is a call"),
        ("policy_kwargs: 'lambda: {}'", "Python is not run"),
        ("noise_type: normal", "noise_type also needs noise_std, such as 0.1"),
        ("noise_std: 0.1", "noise_std also needs noise_type"),
        ("noise_type: normal, noise_std: 0.1", "PPO takes no action noise"),
        ("noise_type: pink, noise_std: 0.1", "noise_type is 'pink', but must be 'normal' or 'ornstein-uhlenbeck'"),
        ("n_experts: 4", r"'n_experts' is a setting of the policy, .*'policy_kwargs:\{n_experts: \.\.\.\}'.*: MoeMlpPolicy"),
        ("policy_kwargs: {n_experts: 4}", r"does not take all of it\. Give policy: MoeMlpPolicy or MoeCnnPolicy"),
        ("policy_kwargs: {net_arc: [8]}", r"policy_kwargs: there is no key 'net_arc'. Did you mean 'net_arch'\?"),
        ("policy_kwargs: {log_std_init: low}", "policy_kwargs: log_std_init is 'low', but must be a number"),
        ("seed: 3", "'seed' is not a hyperparameter; give --seed"),
    ],
)
def test_mistakes_name_file_block_key_and_remedy(entries, message):
    with pytest.raises(UserError, match=rf"mine\.yml, block 'CartPole-v1'.*{message}"):
        resolved(entries)


def test_mistakes_of_the_command_line_name_the_flag():
    with pytest.raises(UserError, match=r"^-params: there is no key 'gama'"):
        resolved("", gama=0.9)
    with pytest.raises(UserError, match=r"^-params: PPO has no policy 'MlpPolcy'. Did you mean 'MlpPolicy'"):
        resolved("", policy="MlpPolcy")


def test_an_agents_own_arguments_are_keys_of_its_blocks_only():
    assert resolved("epsilon: 0.1", cls=BARPO).agent_arguments["epsilon"] == 0.1
    with pytest.raises(UserError, match="there is no key 'epsilon'"):
        resolved("epsilon: 0.1", cls=PPO)


def test_missing_steps_are_asked_for():
    Path("mine.yml").write_text("default: {policy: MlpPolicy}\n")
    with pytest.raises(UserError, match="'n_timesteps' is missing; add it, or give -n"):
        resolve(PPO, Path("mine.yml"), "CartPole-v1", (), {})


def test_policy_by_dotted_path():
    found = resolved("", policy="rlspo.policies.ActorCriticPolicy")
    assert found.policy is PPO.policy_aliases["MlpPolicy"]


# Blocks as rl-baselines3-zoo has them.

STYLES = [
    # agent, entries of a block, arguments that must come out
    (
        "stable_baselines3.SAC",
        'policy_kwargs: "dict(log_std_init=-3, net_arch=[400, 300], activation_fn=nn.ReLU)", learning_rate: lin_7.3e-4',
        {"policy_kwargs": {"log_std_init": -3, "net_arch": [400, 300], "activation_fn": nn.ReLU}},
    ),
    (
        "stable_baselines3.A2C",
        'policy_kwargs: "dict(optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(eps=1e-5), ortho_init=False)"',
        {"policy_kwargs": {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}, "ortho_init": False}},
    ),
    ("stable_baselines3.PPO", "learning_rate: linear_2e-4, clip_range: lin_0.2, n_steps: !!float 1e3", {"n_steps": 1000}),
    (
        "ppo",
        'policy_kwargs: "dict(net_arch=[dict(pi=[64], vf=[32])], activation_fn=nn.Tanh)"',
        {"policy_kwargs": {"net_arch": {"pi": [64], "vf": [32]}, "activation_fn": nn.Tanh}},
    ),
    (
        "stable_baselines3.SAC",
        "replay_buffer_class: HerReplayBuffer, "
        "replay_buffer_kwargs: \"dict(goal_selection_strategy='future', n_sampled_goal=4)\"",
        {
            "replay_buffer_class": HerReplayBuffer,
            "replay_buffer_kwargs": {"goal_selection_strategy": "future", "n_sampled_goal": 4},
        },
    ),
    ("sb3_contrib.TQC", 'buffer_size: "(300_000)", policy_kwargs: "dict(n_critics=1)"', {"buffer_size": 300_000}),
    ("sb3_contrib.TRPO", "policy_kwargs: \"{'net_arch': {'pi': [8], 'vf': [8]}}\"", {}),
    ("stable_baselines3.DQN", 'policy_kwargs: "dict(net_arch=[256, 256])", exploration_final_eps: 0.1', {}),
    ("sb3_contrib.QRDQN", 'policy_kwargs: "dict(net_arch=[256, 256], n_quantiles=25)"', {}),
    ("sb3_contrib.ARS", 'policy_kwargs: "dict(net_arch=[16])", delta_std: lin_0.05, n_delta: 8', {}),
    ("stable_baselines3.TD3", "train_freq: [1, episode], gradient_steps: -1", {"train_freq": (1, "episode")}),
]


@pytest.mark.parametrize(("algo", "entries", "expected"), STYLES)
def test_blocks_in_the_style_of_rl_zoo3(algo, entries, expected):
    found = resolved(entries, cls=agent_class(algo)).agent_arguments
    for key, value in expected.items():
        assert found[key] == value
    for key in ("learning_rate", "clip_range", "delta_std"):
        assert callable(found.get(key, len))


def test_what_the_zoo_reads_may_be_python_literals_too():
    found = resolved(
        "normalize: \"{'norm_obs': True, 'norm_reward': False}\", env_kwargs: 'dict(size=(1, 2))', gamma: 0.9, "
        "monitor_kwargs: \"dict(info_keywords=('is_success',))\""
    ).settings
    assert found.normalize == {"gamma": 0.9, "norm_obs": True, "norm_reward": False}
    assert (found.env_kwargs, found.monitor_kwargs) == ({"size": [1, 2]}, {"info_keywords": ["is_success"]})


def test_flags_merge_into_a_mapping_that_was_python():
    found = resolved("policy_kwargs: 'dict(net_arch=[400, 300], ortho_init=False)'", policy_kwargs={"net_arch": [8]})
    assert found.agent["policy_kwargs"] == {"net_arch": [8], "ortho_init": False}


def test_wrappers_of_the_command_line_replace_those_of_the_file():
    entries = "env_wrapper: {gymnasium.wrappers.TimeLimit: {max_episode_steps: 50}}, env_kwargs: {a: 1}"
    given = {"gymnasium.wrappers.FlattenObservation": {}}
    settings = resolved(entries, env_wrapper=given, env_kwargs={"b": 2}).settings
    assert settings.env_wrapper == given
    assert settings.env_kwargs == {"a": 1, "b": 2}
