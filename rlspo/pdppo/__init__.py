"""PDPPO: decisions followed by chance, with a critic for the state between the two."""

from rlspo.pdppo.pdppo import PDPPO
from rlspo.pdppo.policies import PostDecisionPolicy
from rlspo.pdppo.recurrent import RecurrentPostDecisionPolicy

__all__ = ["PDPPO", "PostDecisionPolicy", "RecurrentPostDecisionPolicy"]
