"""Images with the channel last, alone or in a Dict: every command takes the agents that the zoo trained on them."""

import pytest
from stable_baselines3.common.vec_env import VecTransposeImage, is_vecenv_wrapped

from rlspo.zoo.config.schema import Settings
from rlspo.zoo.envs.recipe import EnvRecipe
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.train import command as train
from rlspo.zoo.video import enjoy

OWN = ["--gym-packages", "image_environments"]
FLAGS = f"{' '.join(OWN)} --no-report --verbose 0 --seed 0 -n 32 --eval-freq 16 --eval-episodes 1 --run-folder run"
ON_POLICY = ["n_steps:16", "batch_size:16", "n_epochs:1", "n_envs:2"]


@pytest.mark.parametrize(
    ("env", "params"),
    [
        ("Camera-v0", ["policy:MultiInputPolicy", "normalize:{norm_obs_keys: [vector]}", "frame_stack:2"]),
        ("Camera-v0", ["policy:MultiInputPolicy", "normalize:{norm_obs: False, norm_reward: True}"]),
        ("Picture-v0", ["policy:CnnPolicy", "normalize:{norm_obs: False}"]),
    ],
)
def test_agents_on_images_can_be_shown(env: str, params: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--algo", "ppo", "--env", env, *FLAGS.split(), "-params", *ON_POLICY, *params]) == 0
    assert evaluate.main(["run", *OWN, "--n-episodes", "2"]) == 0
    assert "36.0" in capsys.readouterr().out
    assert evaluate.main(["run", *OWN, "--n-episodes", "1", "--attack", "random"]) == 0
    assert enjoy.main(["run", *OWN, "--no-render", "-n", "4"]) == 0


def test_sac_learns_from_normalised_stacks_of_images() -> None:
    params = ["n_envs:2", "learning_starts:8", "batch_size:4", "buffer_size:64", "policy:MultiInputPolicy", "frame_stack:2"]
    params += ["normalize:{norm_obs_keys: [vector]}"]
    assert train.main(["--algo", "sac", "--env", "Crane-v0", *FLAGS.split(), "-params", *params]) == 0
    assert evaluate.main(["run", *OWN, "--n-episodes", "1"]) == 0


@pytest.mark.parametrize(("env", "policy"), [("Camera-v0", "MultiInputPolicy"), ("Picture-v0", "CnnPolicy")])
def test_images_are_transposed_once(env: str, policy: str) -> None:
    wrapper = "stable_baselines3.common.vec_env.VecTransposeImage"
    for wrappers in (None, [wrapper]):
        settings = Settings(n_timesteps=1, policy=policy, vec_env_wrapper=wrappers)
        built = EnvRecipe.from_settings(settings, env, lambda _: "here", gym_packages=("image_environments",)).build(
            1, 0, training=False
        )
        assert is_vecenv_wrapped(built, VecTransposeImage)
        seen = built.reset()
        assert (seen["image"] if isinstance(seen, dict) else seen).shape == (1, 3, 36, 38)
