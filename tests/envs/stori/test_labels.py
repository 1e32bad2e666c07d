"""Labelled memory: what it says is what the screen and the rewards say."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rlspo
from rlspo.envs.stori import make_game
from rlspo.envs.stori.labels import Labels, labels_for
from tests.envs.stori.plays import GAMES, frames, tracking


def values(labels: Labels, ram: np.ndarray) -> dict[str, float]:
    """All numbers in the game's units."""
    return dict(zip(labels.names, (labels.read(ram) * labels.units).round(3).tolist(), strict=True))


@pytest.mark.parametrize("game", GAMES)
def test_the_environment_passes_the_checks(game: str) -> None:
    env = make_game(game, type="0")
    check_env(env, skip_render_check=True)
    labels = env.get_wrapper_attr("labels")
    assert env.observation_space.shape == (len(labels.names),) and len(set(labels.names)) == len(labels.names)
    for frame in frames(game)[1]:
        assert labels.space.contains(labels.read(frame.ram))


def test_an_agent_trains_on_it() -> None:
    env = gym.make("STORI/Breakout-v0", type="0")
    assert rlspo.PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, device="cpu").learn(64).num_timesteps == 64


def test_bricks_and_ball_of_breakout_are_where_the_screen_shows_them() -> None:
    labels, balls = labels_for("breakout"), 0
    for frame in frames("breakout")[1]:
        told = values(labels, frame.ram)
        for row in range(6):
            for place in range(18):
                shown = frame.rgb[90 - 6 * row, 8 + 8 * place + 3 : 8 + 8 * place + 5].any()
                # The ball may be drawn over a gap.
                if shown != told[f"brick_{row}_{place}"]:
                    assert abs(told["ball_x"] - 49 - (8 + 8 * place)) < 10
        court = frame.rgb[97:189, 8:152].any(-1)
        if told["ball_in_play"] and 90 < told["ball_y"] < 170 and court.any():
            balls += 1
            rows, columns = np.nonzero(court)
            assert (max(told["ball_x"] - 49, 8), told["ball_y"] + 9) == (columns.min() + 8, rows.min() + 97)
    assert balls > 50


def test_speed_score_and_lives_of_breakout() -> None:
    env = make_game("breakout", type="0", frameskip=1, pool=False)
    seen, labels, earned = env.reset(seed=0)[0], env.get_wrapper_attr("labels"), 0.0
    names, right, moves = list(labels.names), 0, 0
    last = dict(zip(names, seen * labels.units, strict=True))
    for _ in range(1500):
        seen, reward, terminated, _, info = env.step(tracking(env.emulator.ale.getRAM()))
        told = dict(zip(names, seen * labels.units, strict=True))
        earned += float(reward)
        assert round(told["score"]) == earned and round(told["lives"]) == info["lives"]
        if told["ball_in_play"] and last["ball_in_play"]:
            moves += 1
            right += round(told["ball_y"] - last["ball_y"]) == round(told["ball_speed_y"])
            right += (told["ball_x"] - last["ball_x"]) * told["ball_speed_x"] > 0
        last = told
        if terminated:
            break
    # But for the frames of bounces.
    assert earned > 2 and right > 1.9 * moves


def test_clock_and_scores_of_boxing() -> None:
    env = make_game("boxing", type="0", pool=False)
    env.reset(seed=0)
    labels, random, earned = env.get_wrapper_attr("labels"), np.random.default_rng(0), 0.0
    for count in range(400):
        told = dict(zip(labels.names, env.step(int(random.integers(18)))[0] * labels.units, strict=True))
        # Two minutes of 1786 decision steps.
        assert abs(told["seconds_left"] - (120 - (count + 1) * 120 / 1786)) < 2
    env.reset(seed=0)
    for _ in range(400):
        seen, reward, *_ = env.step(int(random.integers(18)))
        told = dict(zip(labels.names, seen * labels.units, strict=True))
        earned += float(reward)
        assert round(told["player_score"] - told["enemy_score"]) == earned


def test_ground_and_animals_of_gopher_are_where_the_screen_shows_them() -> None:
    labels, seen = labels_for("gopher"), 0
    for frame in frames("gopher")[1]:
        told = values(labels, frame.ram)
        for row, line in enumerate((165, 172, 179, 188)):
            for place in range(40):
                colours = frame.rgb[line, 4 * place + 1 : 4 * place + 3]
                if (colours == (223, 183, 85)).all() or (colours == (187, 159, 71)).all():
                    assert told[f"dug_{row}_{place}"] == (colours == (223, 183, 85)).all()
        brown = (frame.rgb == (72, 44, 0)).all(-1)
        if brown.sum() > 8 and 20 < np.nonzero(brown)[1].mean() < 135:
            seen += 1
            assert abs(np.nonzero(brown)[1].mean() - told["gopher_x"]) < 12
        assert sum(told[f"carrot_{place}"] for place in ("left", "middle", "right")) in (2, 3)
    assert seen > 50


def test_car_lives_and_score_of_bank_heist() -> None:
    env = make_game("bank_heist", type="0", pool=False)
    env.reset(seed=0)
    labels, random, earned = env.get_wrapper_attr("labels"), np.random.default_rng(0), 0.0
    for _ in range(700):
        seen, reward, terminated, _, info = env.step(int(random.integers(18)))
        told = dict(zip(labels.names, (seen * labels.units).round(2), strict=True))
        earned += float(reward)
        assert told["score"] == earned and told["lives"] == info["lives"]
        assert sum(told[f"streets_{number}"] for number in range(4)) == 1
        for slot in (1, 2, 3):
            assert told[f"slot_{slot}_bank"] + told[f"slot_{slot}_police"] <= 1
        if terminated:
            break
    assert earned > 0


def test_other_games_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"memory of a game, and that of 'pong' is not known\. Did you mean|Known"):
        labels_for("pong")
