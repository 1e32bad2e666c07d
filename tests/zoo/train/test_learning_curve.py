"""The learning curve shows what the run folder holds."""

import numpy as np
from matplotlib.image import imread

from rlspo.zoo.train.learning_curve import draw


def write_monitor(file, rows):
    lines = ['#{"t_start": 0.0, "env_id": "E"}', "r,l,t", *(f"{r},{length},{t}" for r, length, t in rows)]
    file.write_text("\n".join(lines) + "\n")


def test_nothing_to_draw(tmp_path):
    assert not draw(tmp_path, "title", tmp_path / "curve.png")
    write_monitor(tmp_path / "0.monitor.csv", [])
    assert not draw(tmp_path, "title", tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


def test_training_and_evaluation_are_drawn_in_their_colours(tmp_path):
    write_monitor(tmp_path / "0.monitor.csv", [(float(k), 10, float(k)) for k in range(30)])
    assert draw(tmp_path, "title", tmp_path / "without.png")
    np.savez(tmp_path / "evaluations.npz", timesteps=[100, 200], results=[[1.0, 3.0], [20.0, 24.0]])
    assert draw(tmp_path, "title", tmp_path / "with.png")

    def orange(name):
        red, green, blue = np.moveaxis(imread(tmp_path / name)[..., :3], -1, 0)
        return int(((red > 0.7) & (green < 0.35) & (blue < 0.2)).sum())

    assert orange("without.png") == 0
    assert orange("with.png") > 300
