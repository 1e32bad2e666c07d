"""Profiles: what is read from names, files and mappings, and that every error says what is wrong and what is right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rlspo.envs.profiles import Concept, Profile, load_profile, profile_names, read_profile, type_name
from rlspo.envs.schedules import Schedule
from rlspo.envs.stori.tables import build_effect

CROP = {"type": "3.2", "effect": "crop", "mode": "left", "probability": 0.5}
DRIFT = {"type": "2.2", "schedule": "sudden", "period": 300, "concept": CROP}


def load(profile: Any = None, **settings: Any) -> Profile:
    return load_profile(profile, "pong", "atari", settings.pop("type", None), **settings)


def fails(message: str) -> Any:
    return pytest.raises(ValueError, match=re.escape(message))


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_of_the_package_is_right(name: str) -> None:
    game = name.partition("-")[0]
    profile = load_profile(name, game, "atari")
    assert profile.name == name and name.partition("-")[2].rstrip("ABC") == profile.type
    if game == "atari":
        assert profile.env is None
        for concept in profile.concepts:
            assert concept.effect == "none" or build_effect(concept, "pong", profile)


@pytest.mark.parametrize("type", ["1", "2.1", "2.2", "3.1", "3.2", 1, 1.0, 2.1, 2.2, 3.1, 3.2])
def test_any_game_has_the_types_however_they_are_written(type: Any) -> None:
    assert load(type=type).type == ("1" if float(type) == 1 else str(type))


def test_forms_of_a_profile_are_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    file.write_text("type: 3.2\neffect: crop\nmode: left\nprobability: 0.5\n", encoding="utf-8")
    concept = Concept("3.2", "crop", 0.5, {"mode": "left"})
    assert load(CROP).concept == load(str(file)).concept == load(file).concept == concept
    assert load(str(file)).name == "mine" and load({**CROP, "name": "own"}).name == "own"
    made = load(CROP)
    assert load(made) is made
    assert load(CROP, type=3.2) == made


def test_a_file_of_ones_own_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("atari-1").write_text("type: 1\neffect: dropout\n", encoding="utf-8")
    assert load("atari-1").concept.effect == "dropout"


def test_a_game_goes_before_the_fallback_and_variants_have_letters() -> None:
    assert load_profile(None, "breakout", "atari", "3.2C").name == "breakout-3.2C"
    assert load_profile(None, "breakout", "atari", 1).name == "breakout-1"
    assert load_profile(None, "breakout", "atari").name == "breakout-3.1"
    assert load_profile(None, "pong", "atari", "3.2").name == "atari-3.2"


def test_a_drift_says_what_holds_before_and_after() -> None:
    profile = load({**DRIFT, "base": {"type": 1, "effect": "sticky", "probability": 0.1}})
    assert profile.concepts == (Concept("1", "sticky", 0.1), Concept("3.2", "crop", 0.5, {"mode": "left"}))
    assert profile.schedule == Schedule("sudden", 300)
    assert load(DRIFT).base == Concept("3.1")
    assert load({"type": 2.2, "schedule": "always", "effect": "difficulty"}).concept == Concept("2.2", "difficulty")


def test_keywords_change_a_profile() -> None:
    assert load(CROP, probability=1, mode="top").concept == Concept("3.2", "crop", 1.0, {"mode": "top"})
    assert load(CROP, gate="frame", fidelity="original").gate == "frame"
    assert load(CROP, fidelity="original").fidelity == "original"
    assert CROP["mode"] == "left"


def test_keywords_reach_what_a_drift_drifts_to() -> None:
    changed = load(DRIFT, mode="top", period=7, schedule="cyclic")
    assert changed.concept.settings == {"mode": "top"} and changed.schedule == Schedule("cyclic", 7)
    assert DRIFT["period"] == 300
    assert load(DRIFT, concept={"type": "1", "effect": "dropout"}).concept == Concept("1", "dropout")


@pytest.mark.parametrize("profile", [CROP, DRIFT])
def test_another_effect_drops_the_settings_of_the_old(profile: Any) -> None:
    assert load(profile, effect="box", width=0.1).concept == Concept("3.2", "box", 0.5, {"width": 0.1})
    assert load(profile, effect="crop").concept.settings == {"mode": "left"}


@pytest.mark.parametrize(
    ("env", "fallback", "type", "effect"),
    [
        ("bankheist", "atari", "2.1", "reward_drop"),
        ("gopher", "atari", "2.1", "reward_drop"),
        ("halfcheetah", "continuous", "1", "delay"),
    ],
)
def test_another_effect_than_that_of_a_type_acts_always_unless_told(env: str, fallback: str, type: str, effect: str) -> None:
    """Nobody named the profile, so its probability, per frame perhaps, says nothing of another effect."""
    found = load_profile(None, env, fallback, type, effect=effect)
    assert (found.concept.probability, found.gate) == (1.0, "step")
    told = load_profile(None, env, fallback, type, effect=effect, probability=0.2, gate="frame")
    assert (told.concept.probability, told.gate) == (0.2, "frame")


def test_a_concept_of_ones_own_replaces_that_of_a_type() -> None:
    found = load_profile(None, "halfcheetah", "continuous", "2.2", concept={"type": "1", "effect": "replace"})
    assert (found.concept.type, found.concept.effect) == ("1", "replace")


@pytest.mark.parametrize("given", ["4", 4, True, None, [1], "3.2B", float("nan"), "2"])
def test_types_that_do_not_exist(given: Any) -> None:
    with fails(f"where: type is {given!r}; it must be one of '0': deterministic"):
        type_name(given, "where")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"effect": "crop"}, "profile has no type; it must be one of '0'"),
        ({"type": "3"}, "profile: type is '3'; it must be one of"),
        ({"type": "3.2"}, "profile has no effect; type 3.2 needs one."),
        ({"type": "2.2", "schedule": "always"}, "type 2.2 needs one. Or noise of another type stands in concept: {type: ..."),
        ({**CROP, "probability": 1.5}, "profile: probability is 1.5; it must be a finite number, at least 0 and at most 1."),
        ({**CROP, "probability": -0.1}, "probability is -0.1"),
        ({**CROP, "probability": "often"}, "probability is 'often'"),
        ({**CROP, "probability": True}, "probability is True"),
        ({**CROP, "probability": float("nan")}, "probability is nan"),
        ({**CROP, "gate": "frames"}, "gate is 'frames'; it must be 'step' or 'frame'."),
        ({**CROP, "gate": ["step"]}, "gate is ['step']"),
        ({**CROP, "fidelity": "published"}, "fidelity is 'published'; it must be 'exact' or 'original'."),
        ({**CROP, "period": 3}, "period belong to concept drift; type 3.2 takes none"),
        ({**CROP, "base": CROP}, "base belong to concept drift"),
        ({"type": "3.1", "probability": 0.5}, "profile: type 3.1 perturbs nothing and takes no probability."),
        ({"type": "3.1", "effect": "crop", "mode": 1}, "takes no effect, mode."),
        ({"type": "2.2", "concept": CROP}, "profile has no schedule; type 2.2 needs one: always, sudden"),
        ({"type": "2.2", "schedule": "suden", "period": 3, "concept": CROP}, "schedule is 'suden'. Did you mean 'sudden'?"),
        ({"type": "2.2", "schedule": "ramp", "concept": CROP}, "no period; the schedule 'ramp' needs one, in decision steps."),
        ({**DRIFT, "period": 0}, "profile: period is 0; it must be a whole number of at least 1."),
        ({**DRIFT, "mode": "left"}, "mode must stand inside concept: {...}."),
        ({**DRIFT, 5: "left"}, "5 must stand inside concept"),
        ({**DRIFT, "concept": "crop"}, "concept is 'crop'; it must be a mapping such as"),
        ({**DRIFT, "concept": {"effect": "crop"}}, "profile: concept has no type"),
        ({**DRIFT, "concept": {"type": "1"}}, "profile: concept has no effect; type 1 needs one."),
        ({**DRIFT, "concept": {"type": "0"}}, "type 0 is another observation"),
        ({**DRIFT, "base": {"type": "9"}}, "profile: base: type is '9'"),
        ({**CROP, "env": "breakout"}, "is for 'breakout', and this is 'pong'."),
    ],
)
def test_what_is_wrong_in_a_profile_is_named(data: Any, message: str) -> None:
    with fails(message):
        load(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**CROP, "effect": "corp"}, "profile: effect is 'corp'. Did you mean 'crop'? Those of type 3.2 for pong:"),
        ({**CROP, "effect": "sticky"}, "It is of type 1."),
        ({**CROP, "effect": "difficulty"}, "It is of type 2.2 alone: write concept={'type': '2.2', 'effect': 'difficulty'}."),
        ({"type": "2.2", "schedule": "always", "effect": "crop"}, "write concept: {type: '3.2', effect: crop, ...}."),
        ({**CROP, "mod": 1}, "profile: crop takes no 'mod'. Did you mean 'mode'?"),
        ({**CROP, "gates": "step"}, "profile: crop takes no 'gates'. Did you mean 'gate'?"),
        ({**CROP, "probabilty": 1}, "Did you mean 'probability'?"),
        ({**CROP, "game": "x"}, "crop takes no 'game'."),
        ({**CROP, "mode": "lft"}, "profile: crop: mode is 'lft'. Did you mean 'left'?"),
        ({**CROP, "mode": 6}, "mode is 6."),
        ({**CROP, "mode": True}, "mode is True."),
        ({**CROP, "mode": [1]}, "mode is [1]."),
        ({**DRIFT, "concept": {**DRIFT}}, "effect"),
    ],
)
def test_what_is_wrong_with_an_effect_is_named(data: Any, message: str) -> None:
    with fails(message):
        profile = load(data)
        build_effect(profile.concept, "pong", profile)


def test_names_and_files_that_do_not_exist(tmp_path: Path) -> None:
    with fails("Did you mean 'breakout-3.2B'?"):
        load("breakout-3.2b-")
    with fails("neither a file nor a profile that comes with the package"):
        load("type: 1\n" * 200)
    with fails("profile is 5; it must be a name"):
        load(5)
    with fails("neither a file"):
        load(tmp_path)
    for content, message in [
        ("- 1\n", "is no profile: it must be a mapping."),
        ("", "is no profile"),
        ("a: [", "cannot be read"),
    ]:
        file = tmp_path / "wrong.yml"
        file.write_text(content, encoding="utf-8")
        with fails(message):
            read_profile(file)
    file.write_bytes(b"\xff\xfe\x00")
    with fails("cannot be read"):
        read_profile(file)


def test_types_that_a_game_lacks() -> None:
    with fails("type is '3.2D'. Did you mean '3.2"):
        load_profile(None, "breakout", "atari", "3.2D")
    with fails("There are 1, 2.1, 2.2, 3.1, 3.2 for 'pong'"):
        load(type="0")


def test_contradictions() -> None:
    with fails("type is '1' and the profile 'given' has '3.2'; give one."):
        load(CROP, type="1")
    with fails("type, gate cannot change a Profile that is made already"):
        load(load(CROP), type="1", gate="frame")


def test_profiles_made_in_code_are_checked_too() -> None:
    concept = Concept(3.2, "crop", 1)  # type: ignore[arg-type]
    assert Profile(3.2, concept).type == concept.type == "3.2"  # type: ignore[arg-type]
    with fails("probability is 2"):
        Concept("3.2", "crop", 2)
    with fails("type is '7'"):
        Concept("7", "crop")
    with fails("gate is 'x'"):
        Profile("3.2", concept, gate="x")


def test_an_environment_has_one_name_however_it_is_spelt() -> None:
    assert load_profile({**CROP, "env": "BankHeist"}, "bank_heist", "atari").env == "BankHeist"


def test_an_id_is_a_name_of_its_environment() -> None:
    for name in ("STORI/BankHeist-v0", "ALE/BankHeist-v5"):
        assert load_profile({**CROP, "env": name}, "bank_heist", "atari").env == name
    with fails("is for 'STORI/Boxing-v0', and this is 'bank_heist'"):
        load_profile({**CROP, "env": "STORI/Boxing-v0"}, "bank_heist", "atari")


def test_files_are_read_as_all_others_of_the_package(tmp_path: Path) -> None:
    """Exponents are numbers, and a key that stands twice is an error: the last would win without a word."""
    file = tmp_path / "mine.yml"
    file.write_text("type: 1\neffect: replace\nprobability: 1e-1\n", encoding="utf-8")
    assert load(file).concept.probability == 0.1
    file.write_text("type: 1\neffect: replace\nprobability: 0.1\nprobability: 0.9\n", encoding="utf-8")
    with fails("the key 'probability' stands twice"):
        load(file)


@pytest.mark.parametrize("key", ["gate", "fidelity", "env"])
def test_keys_of_the_whole_profile_inside_a_concept(key: str) -> None:
    profile = load({**DRIFT, "concept": {**CROP, key: "x"}})
    with fails(f"crop takes no {key!r}; it stands at the top of the profile, not inside concept or base."):
        build_effect(profile.concept, "pong", profile)
