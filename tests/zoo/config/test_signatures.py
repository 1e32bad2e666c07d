"""Signatures give the allowed names, and values are checked against their types."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlspo.common.signatures import signature_of
from rlspo.zoo.config.signatures import check_names, check_value, describe
from rlspo.zoo.errors import UserError


class Base:
    def __init__(self, env, gamma: float = 0.9, *, shared: "int | None" = None) -> None: ...


class Child(Base):
    def __init__(self, *args: Any, epsilon: float = 0.1, gamma: float = 0.99, **kwargs: Any) -> None:
        super().__init__(*args, gamma=gamma, **kwargs)


class Open(Base):
    def __init__(self, size: int, **options: Any) -> None: ...


class Odd(Base):
    def __init__(self, first: "NotImported", second: int = 1) -> None: ...  # noqa: F821


def test_keyword_arguments_lead_to_the_next_class():
    signature = signature_of(Child)
    assert set(signature.parameters) == {"env", "epsilon", "gamma", "shared"}
    assert signature.parameters["gamma"].default == 0.99
    assert signature.parameters["shared"].annotation == int | None
    assert signature.required == ["env"]
    assert not signature.open_ended


def test_keyword_arguments_of_a_function_may_be_anything():
    assert signature_of(lambda size, **options: None).open_ended
    assert not signature_of(lambda size: None).open_ended


def test_a_type_that_cannot_be_found_does_not_hide_the_others():
    parameters = signature_of(Odd).parameters
    assert parameters["first"].annotation is Any
    assert parameters["second"].annotation is int


def test_all_unknown_names_are_reported_at_once():
    with pytest.raises(UserError, match=r"here: there is no key 'gama'. Did you mean 'gamma'\?\nhere: .*'qqq'. Allowed"):
        check_names(["gama", "epsilon", "qqq"], ["gamma", "epsilon"], lambda _: "here")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "64"),
        (int, 6.5),
        (int, True),
        (float, "0.1"),
        (float, True),
        (float, None),
        (bool, 1),
        (bool, "yes"),
        (str, 3),
        (list[int], [1, "2"]),
        (Literal["linf", "l2"], "l1"),
        (float | Callable[[float], float], "constant"),
        (type[int], float),
    ],
)
def test_wrong_type_names_key_value_and_what_is_wanted(annotation, value):
    with pytest.raises(UserError) as caught:
        check_value("this_key", value, annotation, "file F, block B")
    message = str(caught.value)
    assert message.startswith("file F, block B: this_key is ")
    assert repr(value) in message
    assert describe(annotation) in message


@given(st.text())
def test_text_is_never_a_number(text):
    for annotation in (int, float, int | None):
        with pytest.raises(UserError):
            check_value("key", text, annotation, "here")


@given(st.integers(-(2**53), 2**53))
def test_whole_numbers_do_for_any_number(number):
    converted = check_value("key", number, float, "here")
    assert converted == number
    assert isinstance(converted, float)


def test_keys_that_are_no_text_are_reported_like_others():
    with pytest.raises(UserError, match=r"here: there is no key 3723\. Allowed: gamma"):
        check_names([3723, "gamma"], ["gamma"], lambda _: "here")


def test_functions_in_text_are_explained():
    with pytest.raises(UserError, match=r"but must be a mapping\. Python is not run"):
        check_value("policy_kwargs", "lambda: {}", dict[str, Any], "here")
