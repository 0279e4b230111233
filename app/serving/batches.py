"""How many pictures a request may have, and how they go to the network: not all at once."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving import at_work
from app.serving.refusals import RefusedError
from app.serving.signatures import Servable, Signature

# 64 times the largest batch that an export lets TensorFlow Serving make. A picture as small as one pixel costs a
# network as much as any other, once it is resized: not bytes bound the time of a request, but this.
MOST = 1024
AT_ONCE = 16  # that largest batch: the memory of a network grows with what it is given at once
LONGEST = 30.0  # seconds; whoever asked has his refusal by then


def check(count: int) -> None:
    """
    Raises:
        RefusedError: a request has more rows than it may.
    """
    if count > MOST:
        raise RefusedError(f"A request has {MOST} rows at most, and this one {count}; ask several times.")


def run(servable: Servable, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    """What the network answers, asked for a few rows at a time where its signature says that they are rows.

    Raises:
        RefusedError: the network cannot answer these, or not in `LONGEST`.
    """
    by_rows = are_rows(servable.signatures[signature], inputs)
    if not by_rows or (count := len(next(iter(inputs.values())))) <= AT_ONCE:
        return servable.run(signature, inputs)
    parts = []
    until = time.monotonic() + LONGEST
    for start in range(0, count, AT_ONCE):
        if time.monotonic() > until:
            raise late()
        at_work.check()
        parts.append(servable.run(signature, {key: each[start : start + AT_ONCE] for key, each in inputs.items()}))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def are_rows(signature: Signature, inputs: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the inputs are so many rows, each of which has its answer, as far as the signature says."""
    infos = (*signature.inputs.values(), *signature.outputs.values())
    counts = {tensor.shape[:1] for tensor in inputs.values()}
    return len(counts) == 1 and all((info.shape or ())[:1] == (-1,) for info in infos)


def late() -> RefusedError:
    return RefusedError(f"The pictures of this request take more than {LONGEST:.0f} seconds.", "DEADLINE_EXCEEDED")
