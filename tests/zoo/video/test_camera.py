"""Videos of perturbed environments show what the agent sees beside the true picture, and describe the perturbation."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest

from rlspo.zoo.runs.saved_agent import find_agent
from rlspo.zoo.video import worker
from rlspo.zoo.video.camera import Camera, NoPictures, beside, picture_of
from rlspo.zoo.video.layout import BACKGROUND, HIGHLIGHT
from rlspo.zoo.video.spec import VideoSpec

GREY, RED = (70, 70, 70), (200, 0, 0)


class Veiled(gym.Env):
    """A grey place that looks red where it is perturbed, which is in every other step."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 255, (4, 8, 6), np.uint8)
    action_space = gym.spaces.Discrete(2)
    render_mode = "rgb_array"

    def __init__(self, silent_reset=False):
        self.silent_reset = silent_reset

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observation(), {} if self.silent_reset else {"stori": {"type": "1", "concept": 0, "perturbed": False}}

    def step(self, action):
        self.elapsed += 1
        odd = bool(self.elapsed % 2)
        told = {"type": "1", "concept": 0, "perturbed": odd, "executed_action": 1 - action if odd else action, "reward": 0.0}
        return self._observation(), 0.0, self.elapsed == 4, False, {"stori": told}

    def render(self):
        return np.full((8, 6, 3), GREY, np.uint8)

    def seen(self):
        return np.full((8, 6, 3), RED if self.elapsed % 2 else GREY, np.uint8)

    def _observation(self):
        return np.stack([np.full((8, 6), self.elapsed + frame, np.uint8) for frame in range(4)])


class Plain(gym.Wrapper):
    """Without any perturbation and without ``seen()``."""

    def has_wrapper_attr(self, name):
        return name != "seen" and super().has_wrapper_attr(name)

    def reset(self, **given):
        return self.env.reset(**given)[0], {}

    def step(self, action):
        return (*self.env.step(action)[:4], {})


def words(look):
    return [[word.text for word in line] for line in look.lines]


def halves(look):
    """What is, and what the agent sees, without their edges."""
    return look.image[2:10, 2:8], look.image[2:10, 16:22]


def test_both_are_shown_side_by_side_and_framed_while_perturbed():
    camera = Camera(Veiled())
    camera.reset(seed=0)
    before = camera.look()
    assert words(before) == [["type 1"], ["what is", "what the agent sees"]]
    assert (before.image[0, 0] == BACKGROUND).all()
    np.testing.assert_array_equal(*halves(before))
    camera.step(0)
    perturbed = camera.look()
    what_is, seen = halves(perturbed)
    assert (what_is == GREY).all() and (seen == RED).all()
    assert (perturbed.image[0, 0] == HIGHLIGHT).all() and (perturbed.image[-1, -1] == HIGHLIGHT).all()
    assert (perturbed.image[0, 12] == BACKGROUND).all()  # between the two
    assert words(perturbed)[0] == ["type 1, perturbed: 1 instead of 0"] and perturbed.lines[0][0].marked
    assert perturbed.lines[1][1].begins == 14 / 24
    camera.step(0)
    assert words(camera.look())[0] == ["type 1"]


def test_the_last_look_at_an_episode_is_kept():
    camera = Camera(Veiled())
    camera.reset(seed=0)
    for _ in range(3):
        camera.step(0)
    assert camera.last is None
    camera.step(0)
    camera.reset()
    assert camera.last is not None and camera.last.image.shape == camera.look().image.shape


def test_without_both_the_environment_is_shown_alone():
    camera = Camera(Veiled(), both=False)
    camera.reset(seed=0)
    camera.step(0)
    look = camera.look()
    assert look.image.shape == (8, 6, 3) and words(look) == [["type 1, perturbed: 1 instead of 0"]]


def test_all_pictures_of_a_video_have_the_same_lines():
    camera = Camera(Veiled(silent_reset=True))
    camera.reset(seed=0)
    first = camera.look()
    camera.step(0)
    assert [len(line) for line in first.lines] == [len(line) for line in camera.look().lines]


def test_an_environment_without_perturbation_is_shown_as_ever_unless_asked_for():
    camera = Camera(Plain(Veiled()))
    camera.reset(seed=0)
    look = camera.look()
    assert look.lines == () and (look.image == GREY).all() and look.image.shape == (8, 6, 3)
    camera = Camera(Plain(Veiled()), both=True)
    camera.reset(seed=0)
    camera.step(0)
    assert (halves(camera.look())[1] == 4).all()  # the newest of the stack


def test_an_observation_that_is_no_picture_cannot_be_shown():
    camera = Camera(gym.make("CartPole-v1", render_mode="rgb_array"), both=True)
    camera.reset(seed=0)
    with pytest.raises(NoPictures, match=r"--seen.*CartPole-v1 is not a picture.*Box.*Leave --seen out"):
        camera.look()


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (1, 9, 7), (3, 9, 7), (4, 9, 7), (9, 7, 4), (9, 7, 6)])
def test_pictures_of_observations(shape):
    shown = picture_of(np.full(shape, 7, np.uint8))
    assert shown.shape == (9, 7, 3) and (shown == 7).all()


def test_numbers_give_no_picture():
    assert picture_of(np.zeros((9, 7), np.float32)) is None and picture_of(np.zeros(9, np.uint8)) is None
    assert picture_of({"picture": np.zeros((9, 7), np.uint8)}) is None


def test_smaller_pictures_are_enlarged():
    both, begins = beside(np.zeros((20, 10, 3), np.uint8), np.full((10, 5, 3), 9, np.uint8), BACKGROUND)
    assert both.shape == (24, 14 + 4 + 14, 3) and begins == 18
    assert (both[2:-2, 20:-2] == 9).all()


def test_a_video_of_a_game_with_the_left_half_hidden(train, workplace):
    """Through Monitor, SB3's AtariWrapper, stacked frames and transposed images."""
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("ale_py")
    wrapper = "env_wrapper:{stable_baselines3.common.atari_wrappers.AtariWrapper: {frame_skip: 1, noop_max: 0}}"
    params = [
        "n_steps:4",
        "batch_size:4",
        "n_epochs:1",
        "n_timesteps:4",
        "policy:CnnPolicy",
        "frame_stack:2",
        "n_envs:1",
        wrapper,
    ]
    flags = ["--no-report", "--eval-freq", "-1", "--env-kwargs", "type:1", "probability:0.5"]
    assert train(*flags, env="STORI/Breakout-v0", params=params)[0] == 0
    # Another profile in place of that of the training.
    kwargs = {"profile": {"type": "3.2", "effect": "crop", "mode": "left", "probability": 1}}
    agent = find_agent(workplace / "logs" / "ppo" / "STORI-Breakout-v0_1", env_kwargs=kwargs)
    assert agent.recipe.env_kwargs["profile"] == kwargs["profile"] and not {"type", "probability"} & set(
        agent.recipe.env_kwargs
    )
    spec = VideoSpec((agent,), workplace / "video.mp4", seed=0, steps=2, captions=False)
    video = worker.record_agents(spec, lambda share: None)
    assert (video.width, video.height) == (2 * (160 + 4 + 4 + 160 + 4), 2 * 214)
    with imageio.get_reader(spec.file) as reader:
        picture = np.asarray(reader.get_data(2)).astype(int)
    left, right = (np.arange(428), slice(8, 320)), (np.arange(428), slice(344, 656))
    what_is, seen = picture[left][60:260], picture[right][60:260]  # score, walls, bricks
    assert what_is[:, :150].max() > 120 and seen[:, :150].max() < 30
    assert np.abs(what_is[:, 170:] - seen[:, 170:]).mean() < 8
    alone = worker.record_agents(dataclasses.replace(spec, seen=False), lambda share: None)
    assert (alone.width, alone.height) == (480, 630)
