"""Plain data becomes arguments, and arguments become plain data again."""

import pytest
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from rlspo import BARPO
from rlspo.common.signatures import signature_of
from rlspo.zoo.config.convert import arguments, imported, linear_schedule, merged, plain
from rlspo.zoo.errors import UserError

AGENT = signature_of(BARPO)


def converted(**values):
    return arguments(values, AGENT, lambda key: "here")


@pytest.mark.parametrize("key", ["learning_rate", "clip_range", "clip_range_vf"])
def test_linear_schedule_falls_to_zero(key):
    schedule = converted(**{key: "lin_3e-4"})[key]
    assert [schedule(progress) for progress in (1.0, 0.5, 0.0)] == pytest.approx([3e-4, 1.5e-4, 0.0])
    assert isinstance(schedule, LinearSchedule)  # a lambda would not survive saving


def test_linear_schedule_may_reach_zero_early():
    schedule = converted(ent_coef="lin_0.2@0.4")["ent_coef"]
    assert [schedule(progress) for progress in (1.0, 0.8, 0.6, 0.3, 0.0)] == pytest.approx([0.2, 0.1, 0.0, 0.0, 0.0])
    assert plain(schedule) == "lin_0.2@0.4"
    for wrong in ("lin_0.2@0", "lin_0.2@1.5", "lin_0.2@half"):
        with pytest.raises(UserError, match="with the fraction of training after which it is 0"):
            converted(ent_coef=wrong)


def test_linear_schedule_only_where_a_schedule_may_stand():
    with pytest.raises(UserError, match=r"gamma is 'lin_0.9', but must be a number"):
        converted(gamma="lin_0.9")
    with pytest.raises(UserError, match="a schedule is lin_ and a number"):
        converted(learning_rate="lin_fast")


def test_schedule_survives_the_record():
    assert plain(linear_schedule("learning_rate", "lin_0.001", "here")) == "lin_0.001"


def test_classes_by_name_and_path():
    signature = signature_of(BARPO.policy_aliases["MlpPolicy"])

    def of(**values):
        return arguments(values, signature, lambda key: "here")

    assert of(activation_fn="relu")["activation_fn"] is nn.ReLU
    assert of(activation_fn="torch.nn.Softplus")["activation_fn"] is nn.Softplus
    with pytest.raises(UserError, match=r"activation_fn is 'rleu'. Did you mean 'relu'\?"):
        of(activation_fn="rleu")
    with pytest.raises(UserError, match="optimizer_class is 'adam', but must be the dotted path of a class"):
        of(optimizer_class="adam")
    with pytest.raises(UserError, match=r"optimizer_class is .* but must be a class"):
        of(optimizer_class="torch.nn.ReLU")


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere.Thing", "cannot import 'nowhere'"), ("torch.nn.ReLo", r"Did you mean 'ReLU"), ("ReLU", "not a dotted path")],
)
def test_dotted_path_that_leads_nowhere(path, message):
    with pytest.raises(UserError, match=message):
        imported(path, "here")


def test_merging_goes_into_mappings_and_changes_nothing_it_was_given():
    base = {"policy_kwargs": {"net_arch": [8], "ortho_init": True}, "gamma": 0.9}
    result = merged(base, {"policy_kwargs": {"net_arch": [4]}, "env_kwargs": {"g": 5}})
    assert result == {"policy_kwargs": {"net_arch": [4], "ortho_init": True}, "gamma": 0.9, "env_kwargs": {"g": 5}}
    assert base["policy_kwargs"] == {"net_arch": [8], "ortho_init": True}
