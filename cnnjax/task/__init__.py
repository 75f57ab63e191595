"""What the outputs and inputs of a model mean: the tasks, and the kinds of inputs."""

from cnnjax.task.decoding import both_classes, decode_positions, probabilities
from cnnjax.task.inputs import INPUTS, Inputs, Preprocessing, as_inputs, named_inputs
from cnnjax.task.joint import JointTask, any_task, joint
from cnnjax.task.kinds import TASKS, USUAL_LOSSES, Task, as_task
from cnnjax.task.label_checks import IGNORED

__all__ = [
    "IGNORED",
    "INPUTS",
    "TASKS",
    "USUAL_LOSSES",
    "Inputs",
    "JointTask",
    "Preprocessing",
    "Task",
    "any_task",
    "as_inputs",
    "as_task",
    "both_classes",
    "decode_positions",
    "joint",
    "named_inputs",
    "probabilities",
]
