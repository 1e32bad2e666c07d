"""Mixture-of-experts actors beside the two critics of PDPPO."""

from __future__ import annotations

from rlspo.pdppo.policies import PostDecisionCnnPolicy, PostDecisionMultiInputPolicy, PostDecisionPolicy
from rlspo.policies.moe import MixtureOfExperts


class MoePostDecisionPolicy(MixtureOfExperts, PostDecisionPolicy):
    """A mixture of experts for vectors ("MoeMlpPolicy")."""


class MoePostDecisionCnnPolicy(MixtureOfExperts, PostDecisionCnnPolicy):
    """A mixture of experts for images ("MoeCnnPolicy")."""


class MoePostDecisionMultiInputPolicy(MixtureOfExperts, PostDecisionMultiInputPolicy):
    """A mixture of experts for Dict observations ("MoeMultiInputPolicy")."""
