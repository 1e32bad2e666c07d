"""Python literals in text are data; everything else in it is refused and nothing is run."""

import argparse
import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlspo.zoo.cli.parser import Pairs
from rlspo.zoo.config import literals

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
def test_what_python_prints_is_read_back(value):
    assert literals.read(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(net_arch=[400, 300], log_std_init=-3.67)", {"net_arch": [400, 300], "log_std_init": -3.67}),
        ("dict(activation_fn=nn.ELU, a=th.nn.Tanh, o=th.optim.Adam)", {
            "activation_fn": "torch.nn.ELU", "a": "torch.nn.Tanh", "o": "torch.optim.Adam",
        }),
        ("OrderedDict([('gamma', 1 - 0.01), ('n', 2**10), ('m', 10 ** 6 // 4)])", {"gamma": 0.99, "n": 1024, "m": 250_000}),
        ("dict(low=-float('inf'), high=np.inf)", {"low": -math.inf, "high": math.inf}),
        ("{'rate': linear_schedule(3e-4)}", {"rate": "lin_0.0003"}),
        ("  (1,\n 'episode')  ", [1, "episode"]),
        ("dict({'a': 1}, b=2)", {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_literals_are_read_as_files_of_rl_zoo3_have_them(text, value):
    assert literals.looks_like_literal(text)
    assert literals.read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "dict(a=__import__('os').system('true'))",
        "dict(a=open('owned', 'w'))",
        "dict(a=os.system)",
        "dict(a=nn.init)",
        "dict(a=nn.functional.relu)",
        "dict(**{'a': 1})",
        "[x for x in (1, 2)]",
        "[(x := 3)]",
        "(lambda: 0)",
        "{f'{1}': 2}",
        "{**{}}",
        "['a' * 10**9]",
        "[[1] * 10**9]",
        "[10**10**10]",
        "[2**65]",
        "[1 / 0]",
        "[True + 1]",
        "{[1]: 2}",
        "dict([1])",
        "{1, 2}",
        "[1j]",
        "[b'']",
        "[1if 2else 3]",
        "[1 is 1]",
        "dict(",
        "(" * 5000 + ")" * 5000,
        "[" * 60 + "]" * 60,
        "[" + "1, " * 20_000 + "]",
        "[" + "-" * 15_000 + "1]",
        "[" + "9" * 15_000 + "]",
    ],
)  # fmt: skip
def test_everything_else_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        literals.read(text)
    assert not list(tmp_path.iterdir())


@given(st.text(alphabet="dict(){}[]=,:'1e-9nN.*+ ", max_size=40))
def test_any_text_gives_data_or_an_error(text):
    with contextlib.suppress(ValueError):
        literals.read(text)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("target_kl:None", None),
        ("policy_kwargs:dict(net_arch=[64, 64])", {"net_arch": [64, 64]}),
        ("policy_kwargs:{'net_arch': [64], 'ortho_init': False}", {"net_arch": [64], "ortho_init": False}),
        ("size:(1, 2)", [1, 2]),
        ("learning_rate:lin_3e-4", "lin_3e-4"),
        ("title:'None'", "None"),
        ("title:(c) me", "(c) me"),
    ],
)
def test_flags_accept_literals(word, value):
    parser = argparse.ArgumentParser()
    parser.add_argument("-params", action=Pairs, nargs="+", default={})
    assert list(parser.parse_args(["-params", word]).params.values()) == [value]
