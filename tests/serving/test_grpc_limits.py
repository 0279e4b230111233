"""What a request by gRPC may cost, who may ask, and the end of a server that waits no longer."""

import asyncio
import random
import time
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from app.serving import connections, examples, grpc_server, tensor_protos, wire
from app.serving.bodies import Bodies
from app.serving.examples import of_request
from app.serving.grpc_answering import METHODS
from app.serving.grpc_server import Grpc
from app.serving.models import Model, Models, Version
from app.serving.refusals import RefusedError
from app.serving.signatures import Signature, TensorInfo
from app.serving.turns import Settings, Turns
from tests.serving.asking import Echo, texts
from tests.serving.test_grpc import ONE, answer, array, call, predicting, refusal, request, served
from tests.serving.test_limits import Waits


def test_the_scheme_of_the_token_is_that_of_any_case() -> None:
    turns = Turns(Settings("söcret"))
    for given in ("Bearer söcret", "bearer  söcret", "BEARER söcret"):
        turns.check_token(given.encode())
    for given in ("Bearer socret", "Basic söcret", "söcret", "Bearer", ""):
        with pytest.raises(RefusedError, match="has not this server's token"):
            turns.check_token(given.encode())


async def begin(channel: Any, **options: Any) -> Any:
    """A request whose message does not come."""
    return channel.stream_unary(f"/{METHODS['Predict'].service}/Predict")(**options)


async def refused(waiting: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as found:
        await asyncio.wait_for(waiting, 10)
    return found.value.code().name, found.value.details() or ""


def test_who_may_not_ask_or_sends_nothing_is_refused_before_a_message_is_there() -> None:
    async def use(channel: Any, _: Grpc) -> None:
        assert (await refused(await begin(channel)))[0] == "UNAUTHENTICATED"
        allowed = (("authorization", "Bearer secret"),)
        code, said = await refused(await begin(channel, metadata=allowed))
        assert (code, said) == ("DEADLINE_EXCEEDED", "The request did not come in 0.1 seconds.")
        none = await begin(channel, metadata=allowed)
        await none.done_writing()
        assert (await refused(none)) == ("INVALID_ARGUMENT", "There is no request.")
        wrong = await begin(channel, metadata=allowed)
        await wrong.write(b"\xff\xff")
        await wrong.done_writing()
        assert (await refused(wrong)) == ("INTERNAL", "This is no PredictRequest.")

    bodies = Bodies(seconds=0.1)
    served(use, turns=Turns(Settings("secret"), bodies))
    assert bodies.held == 0


def test_requests_by_grpc_have_so_many_rows_and_values_and_the_network_gets_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    echo = Echo()
    rows = Signature({"x": TensorInfo("x:0", "DT_FLOAT", (-1,))}, {"y": TensorInfo("y:0", "DT_FLOAT", (-1,))})
    echo.signatures = {**echo.signatures, "rows": rows}
    run = echo.run

    def counting(signature: str, inputs: Any) -> Any:
        sizes.append(len(inputs["x"]))
        return run(signature, inputs)

    monkeypatch.setattr(echo, "run", counting)
    models = Models({"m": Model({1: Version(echo)}, {})})
    for made in (np.ones(1025, np.float32), np.ones((1025, 1), np.float32)):
        with pytest.raises(RefusedError, match="A request has 1024 rows at most, and this one 1025"):
            answer("Predict", predicting({"x": made}), models)
    classify = request("Classify", "m", "both")
    classify.input.example_list.examples.extend([b""] * 1025)
    with pytest.raises(RefusedError, match="A request has 1024 rows at most, and this one 1025"):
        answer("Classify", classify, models)
    monkeypatch.setattr(tensor_protos, "VALUES", 3)
    with pytest.raises(RefusedError, match="The input x has more than 3 values; send them as tensor_content"):
        answer("Predict", predicting({"x": np.ones(4, np.float32)}), models)
    assert sizes == []
    answer("Predict", predicting({"x": np.ones(3, np.float32)}), models)
    monkeypatch.undo()
    monkeypatch.setattr(echo, "run", counting)
    assert (
        array(answer("Predict", predicting({"x": np.arange(40, dtype=np.float32)}, "rows"), models).outputs["y"])[39]
        == 39
    )
    assert sizes == [3, 16, 16, 8]


def test_a_context_is_not_repeated_beyond_the_bytes_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = request("Classify", "m", "both")
    asked.input.example_list_with_context.examples.extend([b""] * 101)
    asked.input.example_list_with_context.context = b" " * 10
    monkeypatch.setattr(examples, "MOST", 1000)
    with pytest.raises(RefusedError, match="The examples with their context are larger than 1000 bytes"):
        answer("Classify", asked)
    context = {"a": "b" * 100}
    with pytest.raises(RefusedError, match="The examples with their context are larger than 1000 bytes"):
        of_request({"context": context, "examples": [{"a": 1}] * 10})


def test_what_is_not_answered_at_the_end_is_refused() -> None:
    waits = Waits()
    turns = Turns(Settings())

    async def use(channel: Any, answering: Grpc) -> None:
        asked = [asyncio.create_task(refusal(channel, predicting({"x": ONE}))) for _ in range(2)]
        asked.append(asyncio.create_task(refused(await begin(channel))))
        await asyncio.to_thread(waits.begun.wait, 10)
        started = time.monotonic()
        await answering.stop(0.2)
        assert await asyncio.gather(*asked) == [("UNAVAILABLE", "The server ends; try again.")] * 3
        assert time.monotonic() - started < 5
        waits.go.set()

    served(use, Models({"m": Model({1: Version(waits)}, {})}), turns)
    assert '{model_name="m",status="UNAVAILABLE"} 2.0' in turns.metrics.page().decode()


async def connected(answering: Grpc) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = answering.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def closed(reader: asyncio.StreamReader) -> None:
    """What a server says first, the settings of HTTP/2, may have come."""
    await asyncio.wait_for(reader.read(), 5)


def test_grpc_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)

    async def use(_: Any, answering: Grpc) -> None:
        held = [await connected(answering) for _ in range(5)]
        await asyncio.gather(*(closed(reader) for reader, _ in held[3:]))
        assert not any(reader.at_eof() for reader, _ in held[:3])
        for _, writer in held:
            writer.close()
        async with grpc.aio.insecure_channel(answering.address) as channel:
            assert await call(channel, "Predict", predicting({"x": ONE}))

    served(use)


def test_a_connection_by_grpc_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.1)

    async def use(_: Any, answering: Grpc) -> None:
        reader, writer = await connected(answering)
        await closed(reader)
        writer.close()
        async with grpc.aio.insecure_channel(answering.address) as channel:
            assert await call(channel, "Predict", predicting({"x": ONE}))
            await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 5)
            assert await call(channel, "Predict", predicting({"x": ONE}))  # which connects again

    served(use)


def test_who_watches_leaves_room_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server, "WATCHING", 2)

    async def use(channel: Any, _: Grpc) -> None:
        stub = health_pb2_grpc.HealthStub(channel)
        watching = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for each in watching:
            assert (await each.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="2 watch already; ask Check"):
            await stub.Watch(health_pb2.HealthCheckRequest()).read()
        assert await call(channel, "Predict", predicting({"x": ONE}))
        watching[0].cancel()
        while True:
            another = stub.Watch(health_pb2.HealthCheckRequest())
            try:
                assert (await another.read()).status == health_pb2.HealthCheckResponse.SERVING
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
        watching[1].cancel()
        another.cancel()

    served(use)


def test_a_message_of_countless_fields_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FIELDS", 1000)
    asked = predicting({"x": ONE})
    of_strings = predicting({"x": texts(*[b""] * 1000)}, "string")
    of_sides = predicting({"x": ONE})
    for _ in range(1000):
        of_sides.inputs["x"].tensor_shape.dim.add()
    packed = predicting({"x": np.ones(1024, np.float32)})

    async def use(channel: Any, _: Grpc) -> None:
        for many in (of_strings, of_sides):
            assert await refusal(channel, many) == ("RESOURCE_EXHAUSTED", "The message has more than 1000 fields.")
        # Numbers in a row are one field, and of a small message nobody counts them.
        assert await call(channel, "Predict", packed)
        assert await call(channel, "Predict", asked)

    bodies = Bodies()
    served(use, turns=Turns(Settings(), bodies))
    assert bodies.held == 0


def test_fields_are_counted_as_protobuf_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What protobuf reads has as many fields as it says, and what it does not read is none here, too."""
    asked = predicting({"x": np.ones((2, 3), np.float32)}, output_filter=["y"])
    asked.model_spec.version.value = 2**62
    content = asked.SerializeToString()
    kind = type(asked)
    # The request has 3, its specification 2, the version in it 1; the input 2, its tensor 3, the shape 2, each side 1.
    monkeypatch.setattr(wire, "FIELDS", 15)
    wire.check(content, kind.DESCRIPTOR)
    monkeypatch.setattr(wire, "FIELDS", 14)
    with pytest.raises(RefusedError, match="more than 14 fields"):
        wire.check(content, kind.DESCRIPTOR)
    monkeypatch.setattr(wire, "FIELDS", 60)
    content += b"\x9a\x3e\x05hello" + b"\x99\x3e" + bytes(8) + b"\x9d\x3e" + bytes(4)  # fields that it does not know
    kind.FromString(content)
    wire.check(content, kind.DESCRIPTOR)
    chance = random.Random(0)
    known = 0
    for _ in range(2000):
        spoilt = bytearray(content)
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        try:
            kind.FromString(bytes(spoilt))
        except DecodeError:
            continue
        known += 1
        wire.check(bytes(spoilt), kind.DESCRIPTOR)
    assert 500 < known < 2000
