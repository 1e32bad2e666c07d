"""At evaluation other noise comes in place of that of the training, and nothing else is lost."""

import gymnasium as gym
import pytest

from rlspo.zoo.envs.env_kwargs import overlaid
from rlspo.zoo.evaluate.command import main


def over(below, above, env_id="STORI/Breakout-v0"):
    return overlaid(env_id, (), below, above)


@pytest.mark.parametrize(
    ("below", "above", "result"),
    [
        ({"type": "1", "probability": 0.5}, {"profile": "breakout-3.2B"}, {"profile": "breakout-3.2B"}),
        ({"profile": "breakout-3.2B", "mode": "top"}, {"type": 3.1}, {"type": 3.1}),
        ({"type": 3.1, "frameskip": 2, "game_mode": 4}, {"type": 1}, {"type": 1, "frameskip": 2, "game_mode": 4}),
        ({"type": 1, "probability": 0.5}, {"type": 1, "frameskip": 3}, {"type": 1, "frameskip": 3}),
        ({"type": 1, "frameskip": 2}, {"probability": 0.9}, {"type": 1, "frameskip": 2, "probability": 0.9}),
        ({"profile": {"type": 1, "effect": "replace"}}, {"profile": {"type": 3.1}}, {"profile": {"type": 3.1}}),
    ],
)
def test_noise_of_a_perturbed_game_is_replaced(below, above, result):
    assert over(below, above) == result


def test_noise_of_a_perturbed_task_is_replaced_and_its_own_arguments_stay(monkeypatch):
    def make(task, profile=None, type=None, **settings):
        raise NotImplementedError

    spec = gym.envs.registration.EnvSpec("Noisy-v0", make, kwargs={"task": "Hopper-v5"})
    monkeypatch.setitem(gym.registry, "Noisy-v0", spec)
    below = {"type": 1, "sigma": 0.1, "reset_noise_scale": 0.2}
    assert over(below, {"type": 2.1}, "Noisy-v0") == {"type": 2.1, "reset_noise_scale": 0.2}


def test_of_other_environments_all_arguments_are_merged():
    given = over({"type": 1, "nested": {"a": 1}}, {"type": 2, "nested": {"b": 2}}, "Pendulum-v1")
    assert given == {"type": 2, "nested": {"a": 1, "b": 2}}


@pytest.fixture
def agent(train, workplace):
    pytest.importorskip("ale_py")
    params = ["n_steps:8", "batch_size:8", "n_epochs:1", "n_timesteps:8", "policy:MlpPolicy", "n_envs:1"]
    params += ["env_wrapper:null", "frame_stack:1"]
    kwargs = ["type:3.1", "obs_type:ram", "noop_max:0", "max_num_frames_per_episode:40"]
    assert train("--no-report", "--eval-freq", "-1", "--env-kwargs", *kwargs, env="STORI/Breakout-v0", params=params)[0] == 0
    return workplace / "logs" / "ppo" / "STORI-Breakout-v0_1"


def test_an_agent_is_evaluated_under_other_noise(agent, capsys):
    command = [str(agent), "-n", "2", "--n-envs", "1", "--env-kwargs"]
    for given in (["type:1", "probability:1"], ["profile:{type: '1', effect: replace, probability: 0.5}"]):
        assert main([*command, *given]) == 0
        out = capsys.readouterr().out
        assert "10.0" in out and "max_num_frames_per_episode" in out  # ten decisions of four frames
    before = sorted(agent.rglob("*"))
    for given, message in [
        ("type:4", "type is 4"),
        ("profile:breakout-3.2Z", "Did you mean 'breakout-3.2"),
        ("typ:1", "typ"),
    ]:
        assert main([*command, given]) == 2
        assert message in capsys.readouterr().err
    assert sorted(agent.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["type:1", "probability:1.5"], "probability is 1.5"),
        (["type:1", "probabilty:0.5"], "Did you mean 'probability'?"),
        (["profil:breakout-3.2B"], "Did you mean 'profile'?"),
        (["frame_skip:4"], "Did you mean 'frameskip'?"),
        (["profile:breakout-3.2Z"], "Did you mean 'breakout-3.2"),
        (["profile:boxing-3.2B"], "is for 'boxing'"),
        (["profile:{type: '3.2', effect: crops}"], "Did you mean 'crop'?"),
        (["profile:{type: '3.2', effect: crop, mode: lefft}"], "Did you mean 'left'?"),
        (["frameskip:0"], "frameskip is 0"),
    ],
)
def test_mistakes_are_reported_before_anything_is_made(train, workplace, given, message):
    pytest.importorskip("ale_py")
    code, out, err = train("--env-kwargs", *given, env="STORI/Breakout-v0")
    assert code == 2 and out == "" and message in err and "Traceback" not in err
    assert not (workplace / "logs").exists()


def test_a_task_that_is_no_environment_is_an_argument_like_any_other(monkeypatch):
    def make(task, type=None, profile=None):
        raise NotImplementedError

    spec = gym.envs.registration.EnvSpec("Walk-v0", make, kwargs={"task": "walk"})
    monkeypatch.setitem(gym.registry, "Walk-v0", spec)
    assert over({"type": "a"}, {"type": "b"}, "Walk-v0") == {"type": "b"}
