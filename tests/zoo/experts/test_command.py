"""`rlspo experts`: a map of who acts where; and videos whose frame says who acts."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from rlspo import SAC
from rlspo.zoo.experts import command as experts
from rlspo.zoo.experts.map import Steps, draw, principal
from rlspo.zoo.experts.mixture import expert_colours
from rlspo.zoo.video import enjoy, record
from rlspo.zoo.video.layout import Layout, View


@pytest.fixture
def mixture(workplace):
    """A file of a mixture of experts, hardly trained."""
    options = {"policy_kwargs": {"net_arch": [8], "n_experts": 3}, "learning_starts": 10, "batch_size": 8, "seed": 0}
    SAC("MoeMlpPolicy", "rlspo/MultiGoal-v0", **options).learn(30).save(workplace / "mixture.zip")
    return workplace / "mixture.zip"


WHICH = ("--algo", "sac", "--env", "rlspo/MultiGoal-v0")


def test_draws_a_map_and_writes_its_points(mixture, workplace, call):
    code, out, err = call(experts.main, mixture, *WHICH, "-n", 50, "--csv", workplace / "map.csv", "--stochastic")
    assert (code, err) == (0, "")
    assert "experts.png" in out
    assert Image.open(workplace / "experts.png").size[0] > 1000
    with open(workplace / "map.csv") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 50
    assert {row["expert"] for row in rows} == {"0", "1", "2"}
    assert all(abs(float(row[name])) <= 1 for row in rows for name in ("a0", "a1"))


def test_the_map_is_that_of_the_principal_components():
    generator = np.random.default_rng(0)
    direction = generator.normal(size=(1, 6))
    seen = generator.normal(size=(300, 1)) @ direction + 0.01 * generator.normal(size=(300, 6))
    places, shares = principal(seen)
    assert shares[0] > 0.99
    assert abs(np.corrcoef(places[:, 0], seen @ direction[0])[0, 1]) > 0.99
    flat, _ = principal(np.ones((5, 1)))
    assert flat.shape == (5, 2)


@pytest.mark.parametrize("actions", [np.zeros((40, 1)), np.arange(40.0).reshape(-1, 1) % 3, np.random.randn(40, 12)])
def test_any_actions_can_be_drawn(actions, workplace):
    steps = Steps(np.random.randn(40, 4), np.arange(40) % 2, actions, 2)
    draw(steps, np.random.randn(40, 2), ("x", "y"), "title", workplace / "map.png")
    assert (workplace / "map.png").stat().st_size > 10_000


def test_every_expert_has_a_colour_of_its_own():
    for n_experts in (2, 8, 12, 30):
        assert len(set(expert_colours(n_experts))) == n_experts


def test_mistakes_are_explained(mixture, workplace, call):
    SAC("MlpPolicy", "rlspo/MultiGoal-v0", policy_kwargs={"net_arch": [8]}).save(workplace / "plain.zip")
    code, _, err = call(experts.main, workplace / "plain.zip", *WHICH)
    assert code == 2
    assert "has no experts" in err
    code, out, err = call(enjoy.main, workplace / "plain.zip", *WHICH, "--experts")
    assert code == 2
    assert "has no experts" in err
    assert "Making a video" not in out + err
    code, _, err = call(experts.main, mixture, *WHICH, "-o", "map.txt")
    assert code == 2
    assert "ends in .png, .svg or .pdf" in err
    code, _, err = call(enjoy.main, mixture, *WHICH, "--experts", "--no-render")
    assert code == 2
    assert "--experts frames a picture" in err
    code, _, err = call(experts.main)
    assert code == 2


@pytest.mark.parametrize("expert", [0, 2])
def test_a_video_shows_who_acts(expert, mixture, workplace, call, request):
    imageio = pytest.importorskip("imageio_ffmpeg")
    file = workplace / "video.mp4"
    model = SAC.load(mixture)
    with torch.no_grad():
        model.actor.gate[-1].bias[expert] = 100.0
    model.save(mixture)
    if expert:  # a process of its own is told of experts as this one is: once is enough
        request.getfixturevalue("recorded_in_process")
    code, _, err = call(record.main, mixture, *WHICH, "--experts", "-n", 6, "-o", file)
    assert (code, err) == (0, "")
    frames = imageio.read_frames(str(file))
    width, height = next(frames)["size"]
    colour = np.array([int(expert_colours(3)[expert][i : i + 2], 16) for i in (1, 3, 5)])
    edges = [np.frombuffer(frame, np.uint8).reshape(height, width, 3)[-6, width // 2].astype(int) for frame in frames]
    assert max(np.abs(edge - colour).max() for edge in edges[1:]) < 40  # nobody has acted in the first one


def test_a_frame_lies_on_the_image():
    layout = Layout.fitting(1, 100, 100, (400, 400), captions=False)
    picture = layout.picture([View(np.full((100, 100, 3), 255, np.uint8), frame="#0072B2")])
    assert picture[1, 1].tolist() == [0, 114, 178]
    assert picture[picture.shape[0] // 2, picture.shape[1] // 2].tolist() == [255, 255, 255]
