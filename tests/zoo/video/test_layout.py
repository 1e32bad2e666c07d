"""Every agent has its place in the picture, and words that can be read."""

import numpy as np
import pytest

from rlspo.zoo.video.layout import Layout, View

LARGEST = (1920, 1200)
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250), (250, 0, 250), (250, 250, 250), (90, 90, 90)]


def solid(colour, height=300, width=300):
    return np.full((height, width, 3), colour, np.uint8)


def tile(picture, layout, index):
    left, top = layout.corner(index)
    return picture[top : top + layout.tile[1], left : left + layout.tile[0]]


@pytest.mark.parametrize("n_views", [1, 2, 3, 5, 8])
def test_every_agent_has_its_place(n_views):
    layout = Layout.fitting(n_views, 300, 300, LARGEST, captions=True)
    views = [View(solid(colour), "name", "left", "right") for colour in COLOURS[:n_views]]
    picture = layout.picture(views, "title")
    assert picture.shape == (layout.size[1], layout.size[0], 3) and not any(side % 2 for side in layout.size)
    for index, view in enumerate(views):
        assert (tile(picture, layout, index) == view.image[0, 0]).all()
    drawn = sum((picture == colour).all(axis=2).sum() for colour in COLOURS[:n_views])
    assert drawn >= n_views * layout.tile[0] * layout.tile[1]  # the places do not overlap


@pytest.mark.parametrize(
    ("n_views", "shape", "columns", "rows"),
    [(1, (480, 480), 1, 1), (2, (480, 480), 2, 1), (4, (400, 600), 2, 2), (6, (400, 600), 3, 2), (9, (480, 480), 3, 3)],
)
def test_agents_are_laid_out_as_large_as_possible(n_views, shape, columns, rows):
    layout = Layout.fitting(n_views, shape[1], shape[0], LARGEST, captions=True)
    assert (layout.columns, layout.rows) == (columns, rows)
    assert layout.size[0] <= LARGEST[0] * 1.05 and layout.size[1] <= LARGEST[1] * 1.05


def test_small_pictures_are_enlarged_without_blurring():
    layout = Layout.fitting(1, 160, 210, LARGEST, captions=False)
    assert layout.tile == (480, 630) and layout.size == layout.tile
    checkered = np.indices((210, 160)).sum(axis=0) % 2 * 255
    picture = layout.picture([View(np.repeat(checkered[..., None], 3, axis=2).astype(np.uint8))])
    np.testing.assert_array_equal(picture, checkered.repeat(3, 0).repeat(3, 1)[..., None].repeat(3, 2))


def test_captions_stand_above_the_agent_only():
    layout = Layout.fitting(2, 300, 300, LARGEST, captions=True)
    blank = layout.picture([View(solid((0, 0, 0)))] * 2)
    captioned = layout.picture([View(solid((0, 0, 0)), "PPO", "return 5"), View(solid((0, 0, 0)))])
    rows, columns = np.nonzero((blank != captioned).any(axis=2))
    left, top = layout.corner(0)
    assert rows.size > 100 and rows.max() < top and columns.max() < left + layout.tile[0]
    other = layout.picture([View(solid((0, 0, 0)), "PPO", "return 6"), View(solid((0, 0, 0)))])
    assert (captioned != other).any()
    titled = layout.picture([View(solid((0, 0, 0)))] * 2, "title")
    assert (titled != blank).any()


def test_long_captions_stay_above_their_agent():
    layout = Layout.fitting(2, 300, 300, LARGEST, captions=True)
    blank = layout.picture([View(solid((0, 0, 0)))] * 2)
    captioned = layout.picture(
        [View(solid((0, 0, 0)), "a very long name of an agent with many steps"), View(solid((0, 0, 0)))]
    )
    assert np.nonzero((blank != captioned).any(axis=2))[1].max() < layout.corner(0)[0] + layout.tile[0]


def test_agents_that_have_stopped_are_dimmed():
    layout = Layout.fitting(2, 300, 300, LARGEST, captions=True)
    picture = layout.picture([View(solid((200, 100, 50)), dimmed=True), View(solid((200, 100, 50)))])
    assert (tile(picture, layout, 0) < tile(picture, layout, 1)).all()


def test_pictures_of_another_size_are_fitted():
    layout = Layout.fitting(1, 300, 300, LARGEST, captions=False)
    picture = layout.picture([View(solid((9, 9, 9), 20, 40))])
    assert (tile(picture, layout, 0) == 9).all()
