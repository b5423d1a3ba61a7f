"""The scripted expert of the MuJoCo twin."""

from b1k_policies.expert.policy import ExpertPolicy

__all__ = ["ExpertPolicy"]
