"""TF_CONFIG: which hosts train together, and which of them this process is."""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from app.program.errors import UserError

EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, the chief first, and which of them this process is."""

    addresses: tuple[str, ...]
    worker: int


class Jobs(BaseModel, extra="forbid"):
    """A cluster of TF_CONFIG. Parameter servers and evaluators have no part in this kind of training."""

    chief: list[Annotated[str, Field(pattern=r"^\S+:\d{1,5}$")]] = Field(default=[], max_length=1)
    worker: list[Annotated[str, Field(pattern=r"^\S+:\d{1,5}$")]] = []


class Task(BaseModel):
    type: Literal["chief", "worker"]
    index: NonNegativeInt


class TFConfig(BaseModel):
    cluster: Jobs
    task: Task


def read_cluster(config: str) -> Cluster | None:
    """What the text of TF_CONFIG says; None where it says that there is one worker.

    Raises:
        UserError: it does not parse, or lacks something, or names a worker twice or one that is not in it.
    """
    try:
        found = TFConfig.model_validate_json(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"TF_CONFIG: {where}{': ' * bool(where)}{first['msg']}. It looks like {EXAMPLE}") from error
    jobs, task = found.cluster, found.task
    addresses = (*jobs.chief, *jobs.worker)
    if task.index >= len(getattr(jobs, task.type)):
        raise UserError(
            f"TF_CONFIG: this is {task.type} {task.index}, but the cluster has {len(getattr(jobs, task.type))} of "
            "them, numbered from 0."
        )
    address, times = Counter(addresses).most_common(1)[0]
    if times > 1:
        raise UserError(f"TF_CONFIG: {address} is there twice; each worker has an address of its own.")
    worker = task.index + (len(jobs.chief) if task.type == "worker" else 0)
    return Cluster(addresses, worker) if len(addresses) > 1 else None
