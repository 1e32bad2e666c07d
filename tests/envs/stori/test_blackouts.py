"""Rectangles over the screen: the right pixels, the right colour, and no other pixel."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import AtariWrapper

from rlspo.envs.stori import make_game
from rlspo.envs.stori.blackouts import grey
from rlspo.envs.stori.games import BLACKOUTS
from tests.envs.stori.plays import GAMES, frames, moment, perturbed

MODES = [(game, number, name) for game in GAMES for number, name in BLACKOUTS[game]["blackout"].modes.items()]
#: First and last column and row that are hidden, of modes that are one rectangle: the published bounds.
PUBLISHED = {
    ("breakout", 2): (8, 151, 57, 92),
    ("breakout", 3): (7, 152, 189, 195),
    ("breakout", 4): (2, 158, 3, 16),
    ("breakout", 6): (8, 151, 131, 156),
    ("breakout", 11): (8, 151, 105, 182),
    ("boxing", 2): (32, 80, 36, 176),
    ("boxing", 3): (81, 127, 36, 176),
    ("boxing", 4): (32, 127, 36, 176),
    ("boxing", 5): (87, 134, 1, 16),
    ("boxing", 6): (33, 69, 1, 16),
    ("boxing", 8): (57, 97, 14, 27),
    ("gopher", 3): (0, 59, 146, 160),
    ("gopher", 4): (100, 159, 146, 160),
    ("gopher", 5): (0, 159, 161, 200),
    ("gopher", 6): (0, 159, 164, 200),
    ("gopher", 7): (0, 159, 161, 168),
    ("gopher", 14): (0, 159, 183, 194),
    ("gopher", 16): (0, 159, 104, 145),
    ("gopher", 17): (0, 159, 26, 56),
    ("bank_heist", 3): (12, 147, 37, 44),
    ("bank_heist", 4): (12, 15, 37, 177),
    ("bank_heist", 8): (12, 73, 11, 36),
    ("bank_heist", 9): (78, 147, 11, 36),
    ("bank_heist", 10): (12, 147, 178, 186),
}


@pytest.mark.parametrize(("game", "number", "name"), MODES)
def test_exactly_the_areas_are_painted(game: str, number: int, name: str) -> None:
    env, kept = frames(game)
    now, effect = moment(env), BLACKOUTS[game]["blackout"](game=game, mode=number)
    assert effect.mode == name
    inside = np.zeros((210, 160), bool)
    for area in effect.areas:
        inside[area.top : area.bottom + 1, area.left : area.right + 1] = True
    if (game, number) in PUBLISHED:
        left, right, top, bottom = PUBLISHED[game, number]
        assert inside[top : bottom + 1, left : right + 1].all()
        assert inside.sum() == (bottom + 1 - top) * (right + 1 - left)
    for frame in kept[::15]:
        for true in (frame.rgb, frame.grey):
            seen = true.copy()
            effect.screen(seen, True, now)
            np.testing.assert_array_equal(seen[~inside], true[~inside])
            for area in effect.areas:
                shown = area.colour if true.ndim == 3 else grey(area.colour)
                assert (seen[area.pixels] == shown).all()
            closed = true.copy()
            effect.screen(closed, False, now)
            np.testing.assert_array_equal(closed, true)


@pytest.mark.parametrize("game", GAMES)
def test_grey_is_what_the_emulator_shows(game: str) -> None:
    _, kept = frames(game)
    for frame in kept[::30]:
        colours, first = np.unique(frame.rgb.reshape(-1, 3), axis=0, return_index=True)
        assert [grey(tuple(colour.tolist())) for colour in colours] == frame.grey.reshape(-1)[first].tolist()


def test_the_published_modes_hide_what_they_are_named_for() -> None:
    # The thing is there on the true screen; hidden, only one colour is left.
    for game, mode, where in [
        ("breakout", "blocks", np.s_[57:93, 8:152]),
        ("boxing", "ring", np.s_[36:177, 32:128]),
        ("gopher", "farmer", np.s_[87:146]),
        ("bank_heist", "lives", np.s_[11:37, 78:148]),
    ]:
        env, kept = frames(game)
        effect, true = BLACKOUTS[game]["blackout"](game=game, mode=mode), kept[20].rgb
        seen = true.copy()
        effect.screen(seen, True, moment(env))
        assert len(np.unique(true[where].reshape(-1, 3), axis=0)) > 1
        assert len(np.unique(seen[where].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("game", GAMES)
def test_a_whole_environment_shows_the_same_in_the_same_game(game: str) -> None:
    env = perturbed(game, type="3.2", effect="blackout", mode=1)
    true = make_game(game, type="3.1")
    true.reset(seed=0)
    effect, random = BLACKOUTS[game]["blackout"](game=game, mode=1), np.random.default_rng(0)
    for _ in range(60):
        action = int(random.integers(env.action_space.n))
        seen, reward, *_, info = env.step(action)
        expected, true_reward, *_ = true.step(action)
        assert info["stori"]["perturbed"] and reward == true_reward
        effect.screen(expected, True, env.emulator.now)
        np.testing.assert_array_equal(seen, expected)


class Painted(gym.ObservationWrapper):
    """The true screen, painted over outside of the emulator."""

    def observation(self, observation: np.ndarray) -> np.ndarray:
        game = self.env.unwrapped._game
        BLACKOUTS[game]["blackout"](game=game, mode=1).screen(observation, True, self.env.get_wrapper_attr("emulator").now)
        return observation


@pytest.mark.parametrize("game", GAMES)
def test_below_the_pipeline_of_stable_baselines(game: str) -> None:
    env = AtariWrapper(perturbed(game, type="3.2", effect="blackout", mode=1), frame_skip=1, noop_max=0)
    true = AtariWrapper(Painted(make_game(game, type="3.1")), frame_skip=1, noop_max=0)
    np.testing.assert_array_equal(env.reset(seed=0)[0], true.reset(seed=0)[0])
    for count in range(60):
        seen, expected = env.step(count % 3)[0], true.step(count % 3)[0]
        assert seen.shape == (84, 84, 1)
        np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("game", GAMES)
def test_grey_observations(game: str) -> None:
    profile = {"type": "3.2", "effect": "blackout", "mode": 1}
    env, true = make_game(game, profile=profile, obs_type="grayscale"), make_game(game, type="3.1", obs_type="grayscale")
    env.reset(seed=0), true.reset(seed=0)
    effect = BLACKOUTS[game]["blackout"](game=game, mode=1)
    for count in range(40):
        seen, expected = env.step(count % 3)[0], true.step(count % 3)[0]
        effect.screen(expected, True, env.emulator.now)
        np.testing.assert_array_equal(seen, expected)
