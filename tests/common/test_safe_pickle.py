"""Pickles read as data: what SB3, gymnasium, NumPy and PyTorch write comes back, and nothing that is named is run."""

import collections
import functools
import io
import os
import pathlib
import pickle
import subprocess
import timeit
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common import noise, utils
from stable_baselines3.common.running_mean_std import RunningMeanStd

from rlspo.common import safe_pickle
from rlspo.common.normalizers import BoundedMeanStd
from rlspo.common.safe_pickle import UnsafePickleError

PLAIN: list[Any] = [
    {"a": [1, 2.5, None, True, "text", b"bytes", 10**40], "b": (1, (2, 3))},
    {1, 2},
    frozenset([1]),
    bytearray(b"12"),
    1 + 2j,
    slice(1, 2),
    pathlib.Path("runs"),
    collections.deque([1, 2], 3),
    collections.OrderedDict(a=1),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.ones((2, 3), np.float32)),
    np.array([{"a": 1}, None], dtype=object),
    np.array(["text"]),
    np.float32(2),
    np.bool_(True),
    torch.arange(10.0)[2:5],
    torch.ones(2, dtype=torch.bfloat16),
    torch.nn.Parameter(torch.ones(2)),
    torch.device("cpu"),
    torch.float32,
    np.float32,
    type(None),
    torch.nn.ReLU,
    torch.optim.Adam,
    functools.partial(torch.nn.LeakyReLU, negative_slope=0.1),
    gym.spaces.Dict(a=gym.spaces.Box(-1, 1, (3,)), b=gym.spaces.Tuple([gym.spaces.MultiBinary(3), gym.spaces.Discrete(2)])),
    gym.spaces.Text(5),
    utils.FloatSchedule(3e-4),
    utils.LinearSchedule(1.0, 0.1, 0.5),
    noise.OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2)),
]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_data_come_back(value: Any, protocol: int) -> None:
    found = safe_pickle.loads(pickle.dumps(value, protocol))
    assert type(found) is type(value) and str(found) == str(value)
    assert str(safe_pickle.loads(cloudpickle.dumps(value))) == str(value)


def test_random_generators_go_on_where_they_were() -> None:
    for generator in (np.random.default_rng(3), np.random.Generator(np.random.MT19937(3)), np.random.RandomState(3)):
        generator.random(5)
        found = safe_pickle.loads(pickle.dumps(generator))
        assert found.random() == generator.random()
    space = gym.spaces.Box(-1, 1, (3,), seed=4)
    found = safe_pickle.loads(pickle.dumps(space))
    np.testing.assert_array_equal(found.sample(), space.sample())


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize(
    "schedule",
    [
        utils.constant_fn(3e-4),
        utils.get_linear_fn(1.0, 0.05, 0.1),
        utils.FloatSchedule(utils.get_linear_fn(1.0, 0.05, 0.1)),
        utils.get_schedule_fn(utils.constant_fn(0.2)),
    ],
)
def test_schedules_that_sb3_pickles_as_code_are_built_anew(schedule: Any) -> None:
    found = safe_pickle.loads(cloudpickle.dumps(schedule))
    assert isinstance(found, utils.FloatSchedule | utils.LinearSchedule | utils.ConstantSchedule)
    for remaining in (1.0, 0.96, 0.5, 0.0):
        assert found(remaining) == schedule(remaining)


class _Call:
    """Pickled as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


TOUCH = "import pathlib; pathlib.Path('ran').touch()"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (_Call(os.system, "touch ran"), "system"),
        (_Call(timeit.timeit, TOUCH, "pass"), "timeit.timeit"),
        (_Call(subprocess.Popen, ["touch", "ran"]), "subprocess.Popen"),
        (_Call(exec, TOUCH), "exec"),
        (_Call(getattr, "text", "upper"), "getattr"),
        ({"deep": [(_Call(exec, TOUCH), 1)]}, "exec"),
        ([_Call(open, "ran", "w")], "open"),
        (collections.defaultdict(_Call), "defaultdict"),
        (os.getcwd, "getcwd"),
    ],
    ids=["system", "timeit", "Popen", "exec", "getattr", "deep", "open", "factory", "getcwd"],
)
def test_calls_are_named_and_not_made(
    value: Any, says: str, protocol: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError, match=says):
        safe_pickle.loads(pickle.dumps(value, protocol))
    assert not list(tmp_path.iterdir())


def test_functions_and_classes_of_the_program_are_reported_by_their_names() -> None:
    class Net(torch.nn.Module):
        pass

    with pytest.raises(UnsafePickleError, match=r"it would run the function .*<lambda>"):
        safe_pickle.loads(cloudpickle.dumps(lambda remaining: remaining))
    with pytest.raises(UnsafePickleError, match="it would run the class Net"):
        safe_pickle.loads(cloudpickle.dumps(Net))


def op(*parts: bytes) -> bytes:
    return pickle.PROTO + bytes([4]) + b"".join(parts) + pickle.STOP


def text(word: str) -> bytes:
    data = word.encode()
    return pickle.SHORT_BINUNICODE + bytes([len(data)]) + data


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + pickle.STACK_GLOBAL


RELU = name("torch.nn.modules.activation", "ReLU")
ARRAY = name("numpy._core.multiarray", "_reconstruct")
NDARRAY = name("numpy", "ndarray")
DTYPE = name("numpy", "dtype")


@pytest.mark.parametrize(
    "data",
    [
        op(RELU, pickle.NONE, pickle.EMPTY_DICT, text("forward"), RELU, pickle.SETITEM, pickle.TUPLE2, pickle.BUILD),
        op(RELU, pickle.EMPTY_DICT, text("forward"), RELU, pickle.SETITEM, pickle.BUILD),
        op(RELU, pickle.EMPTY_TUPLE, pickle.NEWOBJ),
        op(RELU, pickle.EMPTY_TUPLE, pickle.REDUCE),
        op(name("gymnasium.spaces.box", "np"), pickle.EMPTY_TUPLE, pickle.REDUCE),
        op(name("gymnasium.spaces.box", "Box.__init__.__globals__")),
        op(name("stable_baselines3.common.monitor", "Monitor")),
        op(name("stable_baselines3.common.vec_env", "SubprocVecEnv")),
        op(name("rlspo.zoo.train", "main")),
        op(name("torch.jit._script", "ScriptModule")),
        op(name("builtins", "getattr")),
        op(b"\x82\x01"),  # by number in a registry
        op(text("x"), pickle.BINPERSID),
        # An array of 10^9 objects out of nothing.
        op(
            ARRAY,
            NDARRAY,
            pickle.BININT + (10**9).to_bytes(4, "little"),
            pickle.TUPLE1,
            text("O"),
            pickle.TUPLE3,
            pickle.REDUCE,
        ),
        # A type whose objects are made of bytes.
        op(DTYPE, text("V8"), pickle.NEWFALSE, pickle.NEWTRUE, pickle.TUPLE3, pickle.REDUCE, text("x"), pickle.BUILD),
        op(pickle.BYTEARRAY8 + (2**50).to_bytes(8, "little")),
        op(pickle.BINBYTES8 + (2**50).to_bytes(8, "little")),
        op(pickle.FRAME + (2**60).to_bytes(8, "little")),
        op(name("builtins", "bytearray"), pickle.BININT + (2**31 - 1).to_bytes(4, "little"), pickle.TUPLE1, pickle.REDUCE),
        op(pickle.EMPTY_DICT, pickle.EMPTY_TUPLE, pickle.TUPLE1 * 100_000, pickle.NONE, pickle.SETITEM),
        op((pickle.NONE + pickle.POP) * 500_000),
        b"",
        b"\x80\x04",
        pickle.dumps(np.arange(100))[:-40],
    ],
    ids=range(24),
)
def test_made_up_pickles_are_rejected(data: bytes) -> None:
    forward = torch.nn.ReLU.forward
    with pytest.raises(pickle.UnpicklingError):
        safe_pickle.loads(data)
    assert torch.nn.ReLU.forward is forward


def test_the_same_bytes_are_not_copied_without_end() -> None:
    """A name for bytes costs a pickle nothing, a copy of them costs memory."""
    body = pickle.BINBYTES + (10**6).to_bytes(4, "little") + bytes(10**6) + pickle.MEMOIZE + pickle.POP
    copy = name("builtins", "bytearray") + pickle.BINGET + bytes([0]) + pickle.TUPLE1 + pickle.REDUCE
    with pytest.raises(pickle.UnpicklingError, match="more time or memory"):
        safe_pickle.loads(op(body, copy * 1000))


def test_only_as_much_is_read_as_there_is() -> None:
    file = io.BytesIO(b"head" + pickle.dumps([1, 2]) + b"tail")
    file.seek(4)
    assert safe_pickle.load(file) == [1, 2]


def test_statistics_of_rlspo_come_back() -> None:
    statistics = BoundedMeanStd(shape=(2,))
    statistics.update(np.ones((3, 2)))
    found = safe_pickle.loads(pickle.dumps(statistics))
    assert type(found) is RunningMeanStd and found.count == statistics.count
