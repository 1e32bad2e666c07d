"""YAML is data, numbers are numbers, and nothing is lost silently."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rlspo.zoo.config import yaml_io
from rlspo.zoo.errors import UserError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e6", 1_000_000),
        ("-2.5E+1", -25),
        ("1.5e-1", 0.15),
        ("2.0", 2.0),
        ("lin_3e-4", "lin_3e-4"),
        ("12:30", "12:30"),  # YAML 1.1 reads it in base 60
        ("1:30.5", "1:30.5"),
    ],
)
def test_numbers_without_a_point(text, value):
    parsed = yaml_io.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_explicit_float_tag_of_other_zoos_is_read():
    assert yaml_io.parse("!!float 1e5") == 100_000
    assert yaml_io.parse(".inf") == math.inf


def test_quoted_numbers_stay_text():
    assert yaml_io.parse("'1e6'") == "1e6"


@given(PLAIN)
def test_written_data_are_read_back(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("yaml") / "data.yml"
    yaml_io.write(file, {"data": data}, comment="a comment")
    assert yaml_io.read_mapping(file) == {"data": data}


def test_code_is_refused():
    with pytest.raises(yaml.YAMLError):
        yaml_io.parse("!!python/object/apply:os.getcwd []")


def test_key_that_stands_twice_is_refused():
    with pytest.raises(yaml.YAMLError, match="'gamma' stands twice"):
        yaml_io.parse("{gamma: 0.9, gamma: 0.99}")


def test_a_duplicate_key_is_found_where_it_stands(tmp_path):
    file = tmp_path / "settings.yml"
    file.write_text("CartPole-v1:\n  policy: MlpPolicy\n  n_steps: 8\n  n_steps: 16\n")
    with pytest.raises(UserError, match=r"settings\.yml is not plain YAML: the key 'n_steps' stands twice at line 4, column"):
        yaml_io.read_mapping(file)


def test_merged_blocks_may_override():
    blocks = yaml_io.parse("a: &a {x: 1, y: 1}\nb: &b\n  <<: *a\n  x: 2\nc:\n  <<: *b\n  x: 3\n")
    assert blocks["b"] == {"x": 2, "y": 1}
    assert blocks["c"] == {"x": 3, "y": 1}


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1", "1: 2\n", "a: !!python/name:os.system\n"])
def test_file_that_is_no_mapping_is_named(tmp_path, text):
    file = tmp_path / "mine.yml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"mine\.yml"):
        yaml_io.read_mapping(file)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yml: No such file"):
        yaml_io.read_mapping(tmp_path / "nowhere.yml")


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    data = {"text": "1e6", "number": 1000000, "small": 1e-06}
    yaml_io.write(tmp_path / "data.yml", data)
    assert yaml_io.read_mapping(tmp_path / "data.yml") == data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" + "1, " * 12_000 + "1]", "holds more than 12,000 keys, values and list items; leave out .* or split the file"),
        ("#" * 1_000_001, "has 1,000,001 characters, and at most 1,000,000 are read; .* split the file"),
        ("[" * 70, "lists and mappings are nested more than 60 deep; make it flatter"),
        ("a: &a [" + "1, " * 999 + "]\nb: [" + "*a, " * 300 + "]", "aliases written out it holds more than 200,000 keys"),
    ],
)
def test_files_that_are_too_large_are_refused_with_advice(text, words):
    with pytest.raises(yaml.YAMLError, match=words):
        yaml_io.parse(text)
