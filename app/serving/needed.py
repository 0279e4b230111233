"""Whether what serving needs is installed; an extra brings it."""

import importlib.util

from app.program.errors import UserError

PACKAGES = {
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "prometheus-client": "prometheus_client",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
}


def missing() -> list[str]:
    """The packages of the extra `serve` that are not installed."""
    return [name for name, module in PACKAGES.items() if importlib.util.find_spec(module) is None]


def check() -> None:
    """
    Raises:
        UserError: a package of the extra `serve` is not installed.
    """
    if packages := missing():
        raise UserError(
            f"`serve` needs {' and '.join(packages)}, which the extra `serve` brings: "
            "pip install -c constraints.txt -e '.[app,serve]'."
        )
