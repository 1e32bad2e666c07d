"""A block put into a file of hyperparameters is read back as it was, and nothing else in the file changes."""

import stat

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlspo.common.registry import agent_class
from rlspo.zoo.config import yaml_io
from rlspo.zoo.config.hyperparams import find_file
from rlspo.zoo.config.yaml_edit import apply_block, apply_provenance, number_text, render_block
from rlspo.zoo.errors import UserError

# Absolute: found before a test moves to a folder of its own.
OWN = [find_file(algo, agent_class(algo)).resolve() for algo in ("ppo", "arpo", "barpo")]
SETTINGS = {
    "n_timesteps": 1_000_000,
    "policy": "MlpPolicy",
    "n_steps": 2048,
    "learning_rate": "lin_3e-4",
    "ent_coef": 1.5e-6,
    "gamma": 0.9877,
    "max_grad_norm": 1.0,
    "target_kl": None,
    "normalize_observations": True,
    "policy_kwargs": {"net_arch": [64, 64], "activation_fn": "tanh"},
}
RENDERED = """\
Hopper-v5:
  n_timesteps: 1e6
  policy: MlpPolicy
  n_steps: 2048
  learning_rate: lin_3e-4
  ent_coef: 1.5e-6
  gamma: 0.9877
  max_grad_norm: 1.0
  target_kl: null
  normalize_observations: true
  policy_kwargs:
    net_arch: [64, 64]
    activation_fn: tanh
  provenance: >-
    Found by chance.
"""

names = st.text("abcdefgHIJ_-/5", min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)


def block(name, **content):
    return render_block(name, content, "Found by chance.")


def with_types(value):
    """So that 1, 1.0 and true differ."""
    return repr(value)


def test_a_block_is_written_as_people_write_it():
    assert render_block("Hopper-v5", SETTINGS | {"provenance": "old"}, "Found\n  by chance. ") == RENDERED


@settings(deadline=None)
@given(name=names, content=st.dictionaries(names, trees, min_size=1, max_size=5))
def test_whatever_is_written_is_read_back(name, content):
    read = yaml_io.parse(render_block(name, content, ""))
    assert with_types(read) == with_types({name: content})


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1), min_size=1, max_size=60))
def test_provenance_is_folded_and_read_back(words):
    text = " ".join(" ".join(words).split())
    read = yaml_io.parse(render_block("A", {"gamma": 0.9}, text))
    assert read == {"A": {"gamma": 0.9, "provenance": text}}


def test_provenance_is_wrapped():
    lines = render_block("A", {"gamma": 0.9}, "eight letters " * 60).splitlines()
    assert max(len(line) for line in lines) <= 115
    assert len(lines) == 3 + 9


@settings(deadline=None)
@given(st.integers() | st.floats(allow_nan=False))
def test_numbers_are_read_back_with_their_type(number):
    assert with_types(yaml_io.parse(number_text(number))) == with_types(number)


@pytest.fixture(params=OWN, ids=lambda file: file.stem)
def copy(request, tmp_path):
    """A copy of one of our files."""
    file = tmp_path / request.param.name
    file.write_text(request.param.read_text())
    return file


def test_every_block_of_our_files_can_be_replaced(copy):
    original = copy.read_text()
    for name in yaml_io.read_mapping(copy):
        copy.write_text(original)
        before = yaml_io.read_mapping(copy)
        apply_block(copy, name, block(name, gamma=0.5))
        after = yaml_io.read_mapping(copy)
        assert list(after) == list(before), "the order of blocks"
        assert after.pop(name) == {"gamma": 0.5, "provenance": "Found by chance."}
        before.pop(name)
        assert with_types(after) == with_types(before)
        comments = [line for line in original.splitlines() if line.startswith("#")]
        assert [line for line in copy.read_text().splitlines() if line.startswith("#")] == comments


def test_all_blocks_of_our_files_can_be_replaced_one_after_the_other(copy):
    blocks = yaml_io.read_mapping(copy)
    for number, name in enumerate(blocks):
        apply_block(copy, name, block(name, n_steps=number))
    assert [found["n_steps"] for found in yaml_io.read_mapping(copy).values()] == list(range(len(blocks)))
    assert "&" not in copy.read_text(), "an anchor that nothing uses"


def test_only_the_lines_of_the_block_change(copy):
    before = copy.read_text().splitlines()
    apply_block(copy, "CartPole-v1", block("CartPole-v1", gamma=0.5))
    after = copy.read_text().splitlines()
    first = before.index("CartPole-v1:")
    last = before.index("# Every game of the ALE: ALE/Pong-v5, ALE/Breakout-v5, ...") - 1
    assert after == [*before[:first], *block("CartPole-v1", gamma=0.5).splitlines(), *before[last:]]


def test_a_new_block_is_put_at_the_end(copy):
    before = copy.read_text()
    apply_block(copy, "New-v0", block("New-v0", gamma=0.5))
    assert copy.read_text() == before + "\n" + block("New-v0", gamma=0.5)


def test_applying_twice_is_applying_once(copy):
    apply_block(copy, "Hopper-v5", block("Hopper-v5", gamma=0.5))
    once = copy.read_text()
    apply_block(copy, "Hopper-v5", block("Hopper-v5", gamma=0.5))
    assert copy.read_text() == once


def applied(text, name, new, tmp_path):
    """The file after a block was put in."""
    file = tmp_path / "mine.yml"
    file.write_bytes(text.encode())
    apply_block(file, name, new)
    return file.read_bytes().decode()


def test_what_others_take_over_is_written_out_at_the_first_of_them(tmp_path):
    text = """\
A-v1: &base   # for all
  gamma: 0.9  # long
  # deep
  policy_kwargs:
    net_arch: [8]

B-v1:
  <<: *base   # as A
  gamma: 0.8
C-v1: *base
"""
    expected = """\
A-v1:
  gamma: 0.5
  provenance: >-
    Found by chance.

B-v1:
  <<: &base   # as A
    gamma: 0.9  # long
    # deep
    policy_kwargs:
      net_arch: [8]
  gamma: 0.8
C-v1: *base
"""
    assert applied(text, "A-v1", block("A-v1", gamma=0.5), tmp_path) == expected


def test_an_anchor_inside_a_block_moves_as_well(tmp_path):
    text = "A:\n  policy_kwargs: &net\n    net_arch: [8]\n  gamma: 0.9\nB:\n  policy_kwargs: *net\n"
    new = applied(text, "A", block("A", gamma=0.5), tmp_path)
    assert new.endswith("B:\n  policy_kwargs: &net\n    net_arch: [8]\n")


@pytest.mark.parametrize(
    "text",
    [
        "A: &a {gamma: 0.9}\nB: *a\n",  # in braces
        "A: &a\n  gamma: 0.9\nB:\n  <<: [*a]\n",  # in a list
        "A:\n  gamma: &g 0.9\nB:\n  gamma: *g\n",  # a scalar
    ],
)
def test_what_cannot_be_written_out_is_refused_and_nothing_is_written(tmp_path, text):
    file = tmp_path / "mine.yml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yml: the block 'A' cannot be written without changing another block"):
        apply_block(file, "A", block("A", gamma=0.5))
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{A: {gamma: 0.9}, B: {gamma: 0.8}}\n", "is written in braces. Write every block on lines of its own"),
        ("A: [", "is not plain YAML"),
        ("- A\n", "must hold a mapping"),
    ],
)
def test_files_that_cannot_be_changed_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"mine\.yml {message}"):
        applied(text, "A", block("A", gamma=0.5), tmp_path)
    assert (tmp_path / "mine.yml").read_text() == text


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        apply_block(tmp_path / "gone.yml", "A", block("A", gamma=0.5))
    assert not list(tmp_path.iterdir())


def test_line_ends_without_newline_and_of_windows(tmp_path):
    assert applied("A:\n  gamma: 0.9", "B", "B:\n  gamma: 0.5\n", tmp_path) == "A:\n  gamma: 0.9\n\nB:\n  gamma: 0.5\n"
    new = applied("A:\r\n  gamma: 0.9\r\nB:\r\n  gamma: 0.8\r\n", "A", "A:\n  gamma: 0.5\n", tmp_path)
    assert new == "A:\r\n  gamma: 0.5\r\nB:\r\n  gamma: 0.8\r\n"


def test_access_rights_and_links_stay(tmp_path):
    file = tmp_path / "real.yml"
    file.write_text("A:\n  gamma: 0.9\n")
    file.chmod(0o640)
    link = tmp_path / "link.yml"
    link.symlink_to(file)
    apply_block(link, "A", block("A", gamma=0.5))
    assert link.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert yaml_io.read_mapping(file)["A"]["gamma"] == 0.5


def test_an_interruption_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr("rlspo.zoo.config.yaml_edit.os.replace", full)
    file = tmp_path / "mine.yml"
    file.write_text("A:\n  gamma: 0.9\n")
    with pytest.raises(UserError, match=r"Cannot write .*mine\.yml: no space left"):
        apply_block(file, "A", block("A", gamma=0.5))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yml"]
    assert file.read_text() == "A:\n  gamma: 0.9\n"


def test_text_that_looks_like_something_else_is_quoted():
    content = {key: key for key in ("1e5", "3e-4", "true", "null", "2026-11-20", "0x10", "#a", "a: b", "", "~", "1_000")}
    assert yaml_io.parse(render_block("A", content, "")) == {"A": content}
    assert yaml.safe_load(render_block("A", {"a": "plain"}, "")) == {"A": {"a": "plain"}}


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.stem)
def test_a_provenance_replaces_its_own_lines_alone(tmp_path, file):
    copy = tmp_path / "own.yml"
    for name, settings_of_block in yaml_io.read_mapping(file).items():
        copy.write_bytes(file.read_bytes())
        apply_provenance(copy, name, settings_of_block, "Found by a long study. " * 9)
        before, after = yaml_io.read_mapping(file), yaml_io.read_mapping(copy)
        assert after.pop(name) == {**before.pop(name), "provenance": ("Found by a long study. " * 9).strip()}
        assert after == before
        old, new = file.read_text().splitlines(), copy.read_text().splitlines()
        assert [line for line in new if "#" in line] == [line for line in old if "#" in line], "comments stay"
        apply_provenance(copy, name, settings_of_block, settings_of_block["provenance"])
        assert yaml_io.read_mapping(copy) == yaml_io.read_mapping(file)


@pytest.mark.parametrize(
    "text",
    [
        "A-v0: {gamma: 0.9}\nB-v0: {gamma: 0.8}\n",  # in braces
        "A-v0: &a\n  gamma: 0.9\nB-v0: *a\n",  # without one
        "A-v0: &a\n  gamma: 0.9\n  provenance: old\nB-v0: *a\n",  # shared with another block
        "B-v0:\n  gamma: 0.9\n",  # no such block
        "A-v0:\n  gamma: 0.9\n  provenance: |\n    old\n    words\n\n# of B\nB-v0:\n  gamma: 0.8\r\n",
    ],
)
def test_a_provenance_can_always_be_given(tmp_path, text):
    file = tmp_path / "own.yml"
    file.write_bytes(text.encode())
    before = yaml_io.read_mapping(file)
    apply_provenance(file, "A-v0", {"gamma": 0.9}, "New.")
    after = yaml_io.read_mapping(file)
    assert after["A-v0"] == {"gamma": 0.9, "provenance": "New."}
    assert {**after, "A-v0": None} == {**before, "A-v0": None}
    assert ("# of B" in text) == ("# of B" in file.read_text())
