"""Flags of rl-baselines3-zoo that rlspo does not have, and what to do instead, for error messages."""

from __future__ import annotations

_TUNE = "rlspo tune searches for hyperparameters: rlspo tune --algo ALGO --env ENV --n-trials N"
_LOOKS = "pictures have a fixed style; with -o NAME.svg or .pdf they scale"
_FILES = "pictures go into files, -o FILE; no window opens"
_SCRIPTS = "--json FILE is for scripts, and without it every number is shown"
_FRESH = "rewards of an evaluation are the environment's own"

#: Command to flags, and the hint for them.
_ELSEWHERE: dict[str, dict[tuple[str, ...], str]] = {
    "train": {
        ("-optimize", "--optimize-hyperparameters"): _TUNE,
        ("--n-trials", "--sampler", "--pruner", "--n-startup-trials", "--n-evaluations", "--storage", "--study-name"): _TUNE,
        ("--n-jobs", "--max-total-trials", "--no-optim-plots", "--optimization-log-path"): _TUNE,
        ("--trial-id",): "rlspo tune leaves the best settings in best.yml: rlspo train --conf-file best.yml",
        ("--truncate-last-trajectory",): "the last, unfinished episode of a memory for hindsight is always cut off",
    },
    "tune": {
        ("-optimize", "--optimize-hyperparameters"): "rlspo tune does nothing else; leave it out",
        ("--n-jobs",): "--workers N works on N trials at once",
        ("--max-total-trials",): "--n-trials counts the trials of the whole study, those of earlier calls included",
        ("--no-optim-plots",): _FILES,
        ("--optimization-log-path",): "the study's folder is logs/tune/STUDY; -f names another log folder",
        ("--num-threads",): "each worker has one thread; --workers N works on N trials at once",
        ("--trial-id",): "the settings of every trial are in trials.csv, and the best block in best.yml",
    },
    "enjoy": {
        ("--norm-reward",): _FRESH,
        ("--reward-log",): "rlspo evaluate --csv FILE writes a row for each episode",
        ("--verbose",): _SCRIPTS.replace("--json FILE", "--json"),
        ("-P", "--progress"): "each episode is shown as it ends, and a bar with --no-render",
    },
    "evaluate": {
        ("--norm-reward",): _FRESH,
        ("--reward-log",): "--csv FILE writes a row for each episode",
        ("--n-timesteps",): "evaluations are of whole episodes: -n EPISODES",
        ("--no-render",): "no window opens; leave it out",
        ("--verbose",): _SCRIPTS,
        ("-P", "--progress"): "a bar is always shown in a terminal",
    },
    "record": {
        ("--output-folder",): "-o FILE names the video, .mp4 or .gif (default: in the folder videos of the run)",
        ("-g", "--gif"): "-o NAME.gif makes one",
        ("--n-envs",): "a video shows one environment; --checkpoints shows several agents side by side",
        ("--no-render",): "no window opens; leave it out",
    },
    "plot": {
        ("-l",): "--labels NAME=PATH gives the agent of a path a name",
        ("-k", "--key"): "-y return, length or success chooses what of the evaluations is drawn",
        ("-median", "--median", "-iqm", "--iqm"): "lines are the interquartile mean; rlspo benchmark tabulates all three",
        ("--no-million", "--figsize", "--fontsize", "-latex", "--latex", "-loc", "--legend-loc"): _LOOKS,
        ("--no-display",): _FILES,
        ("-print", "--print-n-trials"): "the number of runs is below the picture, in --csv and in --json",
        ("-i", "--input", "--merge"): "give the folders of the runs; nothing has to be gathered first",
        ("-skip", "--skip-envs", "--keep-envs"): "--env ENV ... names the environments to draw",
        ("--skip-keys", "--keep-keys"): "--agents AGENT ... names the agents to draw",
        ("--skip-timesteps",): "--kind bars draws final scores only",
        ("-b", "--boxplot"): "--kind bars draws the interquartile mean, its interval and a dot for each run",
        ("-r", "--rliable"): "--kind profiles draws performance profiles; rlspo benchmark tabulates the rest",
        ("-vs", "--versus"): "--kind improvement draws the probabilities",
        ("-ci", "--ci-size"): "intervals are of 95 %",
        ("--format",): "the suffix of -o FILE sets the format",
    },
    "benchmark": {
        ("--log-dir",): "existing agents are evaluated one by one: rlspo evaluate PATH",
        ("--benchmark-dir",): "-o DIR is where results go",
        ("-n", "--n-timesteps", "--n-envs", "--seed"): "these stand in the grid's file, as n_timesteps, episodes and seeds",
        ("--num-threads",): "every run has one thread; --jobs N does N runs at once",
        ("--test-mode",): "--dry-run shows what would be done, and --only names a part of it",
        ("--with-mujoco", "--no-hub"): "the grid's file lists the environments; nothing is downloaded",
        ("--verbose",): "--json is for scripts",
    },
}


def instead_of(command: str, flag: str) -> str | None:
    """What to do in place of a flag, in a line; None for one that rl-baselines3-zoo does not have either.

    >>> instead_of("enjoy", "--norm-reward")
    "rewards of an evaluation are the environment's own"

    :param command: such as ``"train"``
    """
    return next((text for flags, text in _ELSEWHERE.get(command, {}).items() if flag in flags), None)
