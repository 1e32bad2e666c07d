"""The settings of the published method (arXiv 2504.05150), as its released code has them."""

from __future__ import annotations

from typing import Any

#: The method and the settings of arXiv 2504.05150 for lot sizing (released code): split targets, the larger advantage, Monte
#: Carlo sums, full batches of four episodes.
PUBLISHED: dict[str, Any] = {
    "targets": "split",
    "advantage": "max",
    "ratio": "component",
    "credit": "joint",
    "learning_rate": 5.5e-4,
    "n_steps": 400,
    "batch_size": 400,
    "n_epochs": 40,
    "gamma": 0.9,
    "gae_lambda": 1.0,
    "ent_coef": 0.001,
    "normalize_advantage": False,
    "normalize_rewards": False,
    "max_grad_norm": 1e9,
    "policy_kwargs": {"net_arch": [128, 128], "vf_lr_scale": 1e-3 / 5.5e-4, "post_vf_lr_scale": 1e-3 / 5.5e-4},
}
