"""`.safetensors`, through its own library."""

from pathlib import Path

import numpy as np
import safetensors

from .tensors import Array, Tensor, WeightsError, possible


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of `path` by name.

    Raises:
        WeightsError: no such file, or one that is cut off or of another format.
    """
    try:
        file = safetensors.safe_open(path, framework="numpy")
    except (OSError, safetensors.SafetensorError) as error:
        if not path.is_file():
            raise WeightsError(f"{path} is no file.") from error
        raise WeightsError(f"{path} is no safetensors file, or is cut off: fetch it again ({error}).") from error

    def reading(name: str) -> Tensor:
        def read() -> Array:
            try:
                return np.asarray(file.get_tensor(name))
            except (OSError, TypeError, AttributeError, safetensors.SafetensorError) as error:
                raise WeightsError(f"{path}: {name} cannot be read ({error}).") from error

        return Tensor(name, possible(path, name, tuple(file.get_slice(name).get_shape())), read)

    return {name: reading(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
