"""PDPPO: decisions followed by chance, with a critic for the state between the two."""

from rlspo.pdppo.pdppo import PDPPO
from rlspo.pdppo.policies import PostDecisionPolicy

__all__ = ["PDPPO", "PostDecisionPolicy"]
