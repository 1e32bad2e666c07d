"""What users of rl-baselines3-zoo type is understood, or answered with what to type instead."""

from pathlib import Path

import pytest

from rlspo.zoo.benchmark import command as benchmark
from rlspo.zoo.cli.rl_zoo3_flags import _ELSEWHERE
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.plot import command as plot
from rlspo.zoo.train.arguments import build_parser as train_parser
from rlspo.zoo.train.arguments import parse
from rlspo.zoo.tune import arguments as tune
from rlspo.zoo.video import enjoy, record

#: Every flag of its commands, and the word that would follow.
TRAIN = """--algo --env -tb --tensorboard-log -i --trained-agent --truncate-last-trajectory -n --n-timesteps --num-threads
    --log-interval --eval-freq --optimization-log-path --eval-episodes --n-eval-envs --save-freq --save-replay-buffer -f
    --log-folder --seed --vec-env --device --n-trials --max-total-trials -optimize --optimize-hyperparameters --no-optim-plots
    --n-jobs --sampler --pruner --n-startup-trials --n-evaluations --storage --study-name --trial-id --verbose --gym-packages
    --env-kwargs --eval-env-kwargs -params --hyperparams -conf --conf-file -uuid --uuid --track --wandb-project-name
    --wandb-entity --wandb-group -P --progress -tags --wandb-tags"""
ENJOY = """--env -f --folder --algo -n --n-timesteps --num-threads --n-envs --exp-id --verbose --no-render --deterministic
    --device --load-best --load-checkpoint --load-last-checkpoint --stochastic --norm-reward --seed --reward-log --gym-packages
    --env-kwargs --custom-objects -P --progress"""
RECORD = """--env -f --folder -o --output-folder --algo -n --n-timesteps --n-envs --deterministic --stochastic --seed
    --no-render --exp-id --load-best --load-checkpoint --load-last-checkpoint --env-kwargs --custom-objects -g --gif"""
PLOT = """-a --algo --algos -e --env -f --exp-folder --exp-folders -x --x-axis -y --y-axis -w --episode-window -max
    --max-timesteps -min --min-timesteps --figsize --fontsize -l --labels -k --key -o --output -median --median --no-million
    --no-display -print --print-n-trials -i --input -skip --skip-envs --keep-envs --skip-keys --keep-keys --skip-timesteps
    --format -loc --legend-loc -b --boxplot -r --rliable -vs --versus -iqm --iqm -ci --ci-size -latex --latex --merge"""
BENCHMARK = """--log-dir --benchmark-dir -n --n-timesteps --n-envs --verbose --seed --test-mode --with-mujoco --no-hub
    --num-threads"""


def tune_parser():
    """That of one study."""
    parser = tune.Parser("tune", "", "", "tune")
    for add in (tune._add_task, tune._add_search, tune._add_evaluation, tune._add_output, tune._add_queue):
        add(parser)
    return parser


@pytest.mark.parametrize(
    ("make", "command", "flags"),
    [
        (train_parser, "train", TRAIN),
        (enjoy.build_parser, "enjoy", ENJOY),
        (evaluate.build_parser, "evaluate", ENJOY),
        (record.build_parser, "record", RECORD),
        (plot.build_parser, "plot", PLOT),
        (benchmark.build_parser, "benchmark", BENCHMARK),
    ],
)
def test_every_flag_is_there_or_explained(make, command, flags):
    ours = {flag for action in make()._actions for flag in action.option_strings}
    explained = {flag for flags in _ELSEWHERE[command] for flag in flags}
    assert {*flags.split()} - ours - explained == set()
    assert ours & explained == set(), "what there is needs no such words"


def test_flags_of_a_search_are_there_or_explained():
    ours = {flag for action in tune_parser()._actions for flag in action.option_strings}
    explained = {flag for flags in _ELSEWHERE["tune"] for flag in flags}
    of_search = {flag for flag in TRAIN.split() if any(word in flag for word in ("trial", "optim", "sampl", "prun", "stud"))}
    assert of_search - ours - explained == set()
    assert ours & explained == set()


def test_a_flag_from_there_gets_one_clear_line():
    with pytest.raises(UserError, match=r"no flag -optimize, which rl-baselines3-zoo has: rlspo tune searches"):
        parse(["--algo", "ppo", "--env", "CartPole-v1", "-optimize"])
    with pytest.raises(UserError, match=r"no flag --trial-id, .*: rlspo train --conf-file best\.yml"):
        parse(["--algo", "ppo", "--env", "CartPole-v1", "--trial-id=3"])
    with pytest.raises(UserError, match=r"Did you mean --seed\?"):
        parse(["--algo", "ppo", "--env", "CartPole-v1", "--sed", "3"])


def test_flags_by_the_names_they_have_there():
    def read(parser, text):
        return parser.read(text.split())

    args = read(plot.build_parser(), "-f logs -a ppo -e A-v0 -x time -y length -w 7 -max 1e6 -o p.png")
    assert (args.exp_folders, args.agents, args.env) == ([Path("logs")], ["ppo"], ["A-v0"])
    assert (args.x, args.y, args.smooth, args.max_timesteps) == ("time", "length", 7, 1_000_000)
    args = read(enjoy.build_parser(), "--algo ppo --env A-v0 --folder agents --exp-id -1 --custom-objects -n 5e3")
    assert (args.log_folder, args.exp_id, args.n_timesteps) == (Path("agents"), -1, 5000)
    args = read(train_parser(), "--algo ppo --env A-v0 -uuid -n 1.5e3 --seed -1 --num-threads -1 --log-interval -2")
    assert (args.uuid, args.n_timesteps, args.seed, args.num_threads, args.log_interval) == (True, 1500, None, None, -2)
    with pytest.raises(UserError, match="Give one of them"):
        parse(["--algo", "ppo", "--env", "A-v0", "--uuid", "--run-folder", "mine"])
