"""What is served, changed by a request."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import grpc

from app.serving import messages
from app.serving.configuration import Policy, Served
from app.serving.grpc_answering import PACKAGE
from app.serving.grpc_server import Grpc
from app.serving.models import Models
from app.serving.turns import Settings, Turns
from app.serving.watching import Watching
from tests.serving.asking import Echo
from tests.serving.test_grpc import ONE, call, predicting, served


def test_what_is_served_can_be_changed_while_requests_are_answered_by_who_has_the_token(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "m" / str(number)).mkdir(parents=True)
    (tmp_path / "m" / "2" / "file").touch()
    allowed = {"metadata": (("authorization", "Bearer secret"),)}
    go_on = threading.Event()
    models = Models({})

    def load(folder: Path) -> Echo:
        assert folder.name == "1" or go_on.wait(30)
        return Echo(int(folder.name))

    Watching(models, load).apply([Served("m", tmp_path / "m", Policy(numbers=frozenset({1})))])

    def config(base: Path, *numbers: int, **labels: int) -> Any:
        made = messages.message(f"{PACKAGE}.ReloadConfigRequest")()
        policy = {"specific": {"versions": numbers}}
        made.config.model_config_list.config.add(
            name="m",
            base_path=str(base),
            model_platform="tensorflow",
            model_version_policy=policy,
            version_labels=labels,
        )
        return made

    async def change(channel: Any, asked: Any, **options: Any) -> tuple[str, str]:
        try:
            found = await call(channel, "HandleReloadConfigRequest", asked, **options)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        assert found.HasField("status")
        return "OK", found.status.error_message

    async def answered_by(channel: Any) -> list[int]:
        found = await call(channel, "Predict", predicting({"x": ONE}, "number"), **allowed)
        return list(found.outputs["version"].int64_val)

    async def use(channel: Any, _: Grpc) -> None:
        new = config(tmp_path / "m", 1, 2, canary=2)
        assert (await change(channel, new))[0] == "UNAUTHENTICATED"
        changing = asyncio.create_task(change(channel, new, **allowed))
        while 2 not in models.models["m"].versions:
            await asyncio.sleep(0.01)
        assert await answered_by(channel) == [1]
        go_on.set()
        assert await changing == ("OK", "")
        assert await answered_by(channel) == [2]
        assert models.models["m"].labels == {"canary": 2}
        code, said = await change(channel, config(tmp_path / "m", 2, canary=1), **allowed)
        assert (code, said.partition(";")[0]) == (
            "FAILED_PRECONDITION",
            "Request to assign label to version 1 of model m, which is not currently available for inference",
        )
        code, said = await change(channel, config(Path("/etc"), 1), **allowed)
        assert (code, said.partition(",")[0]) == (
            "PERMISSION_DENIED",
            f"The base_path of model m is not in {tmp_path}; start the server with it.",
        )
        other = messages.message(f"{PACKAGE}.ReloadConfigRequest")()
        other.config.custom_model_config.type_url = "a"
        assert await change(channel, other, **allowed) == (
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        )
        assert models.models["m"].labels == {"canary": 2}
        models.reload = None
        assert (await change(channel, new, **allowed))[0] == "UNIMPLEMENTED"

    served(use, models, Turns(Settings("secret")))


def test_a_request_that_says_what_is_served_is_held_until_it_is_served() -> None:
    turns, models, held = Turns(Settings()), Models({}), []
    models.reload = lambda config: held.append(turns.bodies.held)
    asked = messages.message(f"{PACKAGE}.ReloadConfigRequest")()
    asked.config.model_config_list.config.add(name="m" * 5000)

    async def use(channel: Any, _: Grpc) -> None:
        await call(channel, "HandleReloadConfigRequest", asked)

    served(use, models, turns)
    assert (held, turns.bodies.held) == ([asked.ByteSize()], 0)
