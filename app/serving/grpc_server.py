"""TensorFlow Serving's gRPC services beside its paths: one queue, one count, one end with HTTP."""

import asyncio
import contextlib
import functools
import logging
import socket
import time
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from app.program.errors import UserError
from app.serving import connections, grpc_answering, wire
from app.serving.grpc_answering import METHODS
from app.serving.messages import message
from app.serving.models import Models
from app.serving.refusals import RefusedError
from app.serving.turns import FAILED, Turns, ending

LONGEST = 1024  # characters of an error; metadata of HTTP/2 has its limits
HEALTH = ("", "PredictionService", "ModelService", grpc_answering.PREDICTION, grpc_answering.STATUS)
REFUSING = 1.0  # seconds that refusals have to reach those who still wait at the end
WATCHING = 50  # calls of Watch at most: each takes the place of a request as long as it lasts
TOLD = 0.1  # seconds that who watches has to learn that this ends
LOG = logging.getLogger("app.serving")


class Grpc:
    """`listening` holds the port until it is answered at; see `server.listen`."""

    def __init__(self, models: Models, turns: Turns, listening: socket.socket, host: str) -> None:
        self.models, self.turns, self._listening = models, turns, listening
        self._answering: set[asyncio.Task[Any]] = set()
        self._ending = False
        port = listening.getsockname()[1]
        self.address = f"{f'[{host}]' if ':' in host else host}:{port}"

    async def start(self) -> None:
        """Answers from now on, in the loop that this is called in.

        Raises:
            UserError: the port has been taken meanwhile.
        """
        most = self.turns.bodies.most
        options = [("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", -1)]
        # Without the last, a second server would take half of the requests.
        options.append(("grpc.so_reuseport", 0))
        options.append(("grpc.max_allowed_incoming_connections", connections.MOST))
        options.append(("grpc.max_connection_idle_ms", int(1000 * connections.SECONDS)))
        # Those that wait and those that only look; more are refused before they are read.
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * self.turns.settings.waiting)
        handlers: dict[str, dict[str, Any]] = {}
        for name, method in METHODS.items():
            # As a stream of one: a single message would be read before anything is asked of who sends it.
            handlers.setdefault(method.service, {})[name] = grpc.stream_unary_rpc_method_handler(
                functools.partial(self._answer, name),
                response_serializer=lambda response: response.SerializeToString(),
            )
        for service, of in handlers.items():
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, of)])
        self._health = _Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        state = health_pb2.HealthCheckResponse
        for service in HEALTH:
            await self._health.set(service, state.SERVING if self.models.ready else state.NOT_SERVING)
        try:
            self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            port = self._listening.getsockname()[1]
            raise UserError(f"Port {port} is in use; choose another --grpc-port.") from error
        await self._server.start()
        self._listening.close()

    async def stop(self, seconds: float) -> None:
        """Takes no new request, and gives those that are there so long to end; then they are refused."""
        await self._health.end()
        stopping = asyncio.ensure_future(self._server.stop(seconds + REFUSING))
        await asyncio.wait({stopping}, timeout=seconds)
        self._ending = True
        for task in self._answering:
            task.cancel()
        await stopping

    async def _answer(self, method: str, _: Any, context: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        started = time.perf_counter()
        name, code, refusal, response = "", "OK", None, None
        try:
            given = dict(context.invocation_metadata() or ()).get("authorization", "")
            self.turns.check_token(given if isinstance(given, bytes) else given.encode())
            if not METHODS[method].at_once:
                await self.turns.room()
            request, size = await self._read(method, context)
            # Only names that are served: see `application`.
            if hasattr(request, "model_spec") and request.model_spec.name in self.models.models:
                name = request.model_spec.name
            answer = await self._in_turn(method, request, size, context)
            response = answer.content
            if not METHODS[method].at_once:
                seconds = time.perf_counter() - started
                self.turns.metrics.answered(name, method.lower(), answer, seconds, "GRPC")
        except RefusedError as error:
            refusal = error
        except asyncio.CancelledError:
            if not self._ending:  # its client is gone
                raise
            refusal = ending()
        except Exception:
            LOG.exception("%s", method)
            refusal = RefusedError(FAILED, "INTERNAL")
        if refusal is not None:
            code = refusal.code
        self.turns.metrics.count(name, code)
        milliseconds = 1000 * (time.perf_counter() - started)
        LOG.info('%s "gRPC %s" %s %.1f ms', context.peer(), method, code, milliseconds)
        if refusal is not None:
            said = refusal.message
            said = said if len(said) <= LONGEST else f"{said[:LONGEST]}...TRUNCATED"
            await context.abort(grpc.StatusCode[code], said.encode("utf-8", "replace").decode())
        return response

    async def _read(self, method: str, context: Any) -> tuple[Any, int]:
        """The message and its bytes, which are held until they are freed."""
        bodies = self.turns.bodies
        reading = asyncio.ensure_future(context.read())
        # It is not cancelled, which gRPC does not know: it ends with the call.
        reading.add_done_callback(lambda read: read.cancelled() or read.exception())
        if not (await asyncio.wait({reading}, timeout=bodies.seconds))[0]:
            raise RefusedError(f"The request did not come in {bodies.seconds:g} seconds.", "DEADLINE_EXCEEDED")
        content = reading.result()
        if not isinstance(content, bytes):
            raise RefusedError("There is no request.")
        kind = message(f"{grpc_answering.PACKAGE}.{METHODS[method].request}")
        bodies.hold(len(content))
        try:
            wire.check(content, kind.DESCRIPTOR)
            return kind.FromString(content), len(content)
        except (DecodeError, ValueError, IndexError):
            bodies.free(len(content))
            raise RefusedError(f"This is no {METHODS[method].request}.", "INTERNAL") from None
        except RefusedError:
            bodies.free(len(content))
            raise

    async def _in_turn(self, method: str, request: Any, size: int, context: Any) -> Any:
        ask = functools.partial(METHODS[method].answer, self.models, request)
        bodies = self.turns.bodies
        if not METHODS[method].at_once:
            return await self.turns.take(ask, lambda: bodies.free(size), context.time_remaining())
        try:
            return await asyncio.to_thread(ask) if METHODS[method].long else ask()
        finally:
            bodies.free(size)


class _Health(health.aio.HealthServicer):
    """Who watches is let go at the end, which would wait for him."""

    def __init__(self) -> None:
        super().__init__()
        self._watching: set[asyncio.Task[Any]] = set()

    async def Watch(self, request: Any, context: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._watching) >= WATCHING:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHING} watch already; ask Check.")
        self._watching.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # so that it ends, for its client too
                await super().Watch(request, context)
        finally:
            self._watching.discard(task)

    async def end(self) -> None:
        await self.enter_graceful_shutdown()
        if self._watching:
            await asyncio.sleep(TOLD)
        for task in self._watching:
            task.cancel()
