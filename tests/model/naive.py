"""The naive model with limits by brute force: nothing of the engine, and nothing of the policy's compiler, takes part."""

from monitor.verify import model
from tests.model import plans


def Partition(policy, controls=()):  # noqa: N802 - stands for the class
    return model.Partition(policy, controls, plans)


def decide(history):
    """Everything that one partition decides over a whole history: {policy, controls, log}."""
    partition = Partition(history["policy"], history["controls"])
    for record in history["log"]:
        partition.record(record)
    return partition
