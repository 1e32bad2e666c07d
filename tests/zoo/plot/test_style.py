"""What black and white leaves of a picture is enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from rlspo.zoo.plot.style import looks, spread


def test_looks_differ_without_their_colours():
    several = list(looks([str(number) for number in range(35)]).values())
    assert len({(look.dashes, look.marker) for look in several}) == 35
    first = several[:6]
    assert len({look.hatch for look in first}) == 6


def test_neighbouring_colours_differ_in_brightness():
    colours = [look.colour for look in looks([str(number) for number in range(8)]).values()]
    brightness = [np.dot(to_rgb(colour), [0.299, 0.587, 0.114]) for colour in colours]
    assert np.abs(np.diff(brightness)).min() > 0.1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.2))
def test_labels_keep_their_order_and_do_not_overlap(wanted, gap):
    places = spread(np.array(wanted), gap)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= gap - 1e-9).all()
    assert abs(places.mean() - np.mean(wanted)) < 1e-9  # as many are pushed up as down


def test_labels_that_have_room_stay_where_they_are():
    assert spread(np.array([0.9, 0.1, 0.5]), 0.1) == pytest.approx([0.9, 0.1, 0.5])
