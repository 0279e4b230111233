"""What a request may cost, who may ask, and what is told of it."""

import asyncio
import gc
import gzip
import threading
import time
import weakref
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette

from app.serving import turns
from app.serving.application import application
from app.serving.batching import Batched, Parameters
from app.serving.bodies import Bodies
from app.serving.models import Model, Models, Version
from app.serving.page.shown import Shown
from app.serving.signatures import Servable
from app.serving.turns import Settings, Turns
from export import picture_files
from tests.serving.asking import Echo, ask, asking
from tests.serving.test_batching import Doubles

PREDICT = "/v1/models/m:predict"
BODY = '{"instances": [1]}'


def serve(
    servable: Servable | None = None, settings: Settings | None = None, bodies: Bodies | None = None
) -> Starlette:
    models = Models({"m": Model({1: Version(servable or Echo())}, {})})
    return application(models, Turns(settings or Settings(), bodies))


class Waits(Echo):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.begun.set()
        assert self.go.wait(10)
        return super().run(signature, inputs)


def parts(sent: list[int], count: int, seconds: float = 0.0) -> AsyncIterator[bytes]:
    async def generate() -> AsyncIterator[bytes]:
        for _ in range(count):
            sent.append(100)
            yield b" " * 100
            await asyncio.sleep(seconds)

    return generate()


def test_a_body_that_says_that_it_is_too_large_is_not_read() -> None:
    sent: list[int] = []
    answer = ask(serve(), "POST", PREDICT, parts(sent, 3), headers={"Content-Length": str(64 * 2**20 + 1)})
    assert (answer.status_code, sent) == (413, [])
    assert answer.json() == {"error": "The request is larger than 67108864 bytes."}


def test_a_body_that_does_not_say_its_size_is_read_up_to_the_limit() -> None:
    sent: list[int] = []
    bodies = Bodies(most=1000)
    answer = ask(serve(bodies=bodies), "POST", PREDICT, parts(sent, 1000))
    assert (answer.status_code, sum(sent)) == (413, 1100)
    assert bodies.held == 0


def test_a_small_body_that_unpacks_to_a_large_one_is_refused() -> None:
    bomb = gzip.compress(b" " * 10_000)
    answer = ask(serve(bodies=Bodies(most=1000)), "POST", PREDICT, bomb, headers={"Content-Encoding": "gzip"})
    assert (len(bomb) < 100, answer.status_code) == (True, 413)


def test_a_body_for_which_there_is_no_room_now_may_come_later() -> None:
    bodies = Bodies(most=1000, together=1200, reserved=0)
    bodies.held = 1000  # of others
    app = serve(bodies=bodies)
    answer = ask(app, "POST", PREDICT, b" " * 300 + BODY.encode())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert ask(app, "POST", PREDICT, BODY).status_code == 200
    assert bodies.held == 1000


def test_where_large_bodies_have_taken_their_room_a_small_one_has_some() -> None:
    bodies = Bodies()
    bodies.held = 4 * 64 * 2**20  # of four that are slow
    app = serve(bodies=bodies)
    assert ask(app, "POST", PREDICT, BODY).status_code == 200
    assert ask(app, "POST", PREDICT, b" " * 2**20 + BODY.encode()).status_code == 503
    bodies.held += 64 * 2**20  # of many that are small
    assert ask(app, "POST", PREDICT, BODY).status_code == 503
    assert bodies.held == 5 * 64 * 2**20


def test_what_a_body_is_unpacked_to_is_held_as_well_until_it_is_answered() -> None:
    held: list[int] = []
    bodies = Bodies(together=10_000, reserved=0)

    class Looks(Echo):
        def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            held.append(bodies.held)
            return super().run(signature, inputs)

    app = serve(Looks(), bodies=bodies)
    packed = {"Content-Encoding": "gzip"}
    content = gzip.compress(b" " * 5000 + BODY.encode())
    assert ask(app, "POST", PREDICT, content, headers=packed).status_code == 200
    assert held == [len(content) + 5000 + len(BODY)]
    assert ask(app, "POST", PREDICT, gzip.compress(b" " * 10_000), headers=packed).status_code == 503
    assert bodies.held == 0


def test_a_client_that_goes_while_it_sends_leaves_its_room() -> None:
    bodies = Bodies()
    ending = [{"type": "http.request", "body": b" " * 100, "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return ending.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": PREDICT, "raw_path": PREDICT.encode(), "query_string": b""}
    asyncio.run(serve(bodies=bodies)(scope | {"headers": []}, receive, send))
    assert (ending, bodies.held) == ([], 0)


def test_a_body_that_comes_too_slowly_is_given_up() -> None:
    bodies = Bodies(seconds=0.05)
    answer = ask(serve(bodies=bodies), "POST", PREDICT, parts([], 3, seconds=5.0))
    assert (answer.status_code, bodies.held) == (408, 0)
    assert answer.json() == {"error": "The request did not come in 0.05 seconds, or came too slowly."}


@pytest.mark.parametrize(
    ("sizes", "pause", "seconds", "status"),
    [
        ([2**20], 0.05, 10.0, 408),
        ([2**20 - 1], 0.05, 0.1, 400),  # small: it has its minute
        ([2**20, 2**18, 2**18, 2**18], 0.4, 0.15, 400),
    ],
)
def test_a_large_body_has_to_come_on(sizes: list[int], pause: float, seconds: float, status: int) -> None:
    bodies = Bodies()
    bodies.pause = pause

    async def slowly() -> AsyncIterator[bytes]:
        for size in sizes:
            yield b" " * size
            await asyncio.sleep(seconds)

    answer = ask(serve(bodies=bodies), "POST", PREDICT, slowly())  # which is a document without content
    assert (answer.status_code, bodies.held) == (status, 0)


def test_what_takes_too_long_is_answered_so_and_the_next_waits_for_no_place() -> None:
    waits = Waits()
    app = serve(waits, Settings(deadline=0.1, waiting=1))

    async def asked() -> tuple[int, int]:
        late = await asking(app, "POST", PREDICT, BODY)
        waits.go.set()
        await asyncio.sleep(0.1)
        return late.status_code, (await asking(app, "POST", PREDICT, BODY)).status_code

    assert asyncio.run(asked()) == (504, 200)


class Notes(Waits):
    """Also notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.asked += inputs["x"].tolist()
        return super().run(signature, inputs)


@pytest.mark.parametrize("ends", ["late", "cancelled"])
def test_whose_turn_comes_when_nobody_waits_for_it_any_more_is_passed_over(ends: str) -> None:
    notes, bodies = Notes(), Bodies()
    app = serve(Batched(notes, Parameters()), Settings(deadline=0.1 if ends == "late" else 30.0), bodies)

    async def asked() -> list[int]:
        tasks = []
        for number in (1, 2, 3):
            tasks.append(asyncio.create_task(asking(app, "POST", PREDICT, f'{{"instances": [{number}]}}')))
            await asyncio.sleep(0.02)
        if ends == "cancelled":
            for task in tasks:
                task.cancel()
        answers = await asyncio.gather(*tasks)
        notes.go.set()
        await asyncio.sleep(0.05)
        answers.append(await asking(app, "POST", PREDICT, '{"instances": [4]}'))
        return [answer.status_code for answer in answers]

    assert asyncio.run(asked()) == [*[504 if ends == "late" else 503] * 3, 200]
    assert notes.asked == [1, 4]
    assert bodies.held == 0


def test_who_finds_room_after_a_while_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "REFUSALS", 5)
    waits = Waits()
    app = serve(waits, Settings(waiting=1))

    async def asked() -> list[int]:
        first = asyncio.create_task(asking(app, "POST", PREDICT, BODY))
        await asyncio.to_thread(waits.begun.wait, 10)
        second = asyncio.create_task(asking(app, "POST", PREDICT, BODY))
        await asyncio.sleep(0.02)
        waits.go.set()
        return [answer.status_code for answer in await asyncio.gather(first, second)]

    assert asyncio.run(asked()) == [200, 200]


def test_while_a_request_waits_for_the_network_its_values_are_not_kept_as_they_were_read() -> None:
    found: list[int] = []

    class Looks(Echo):
        def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            found.append(sum(isinstance(each, list) and len(each) == 1021 for each in gc.get_objects()))
            return super().run(signature, inputs)

    numbers = ", ".join(["7.5"] * 1021)
    for body in (f'{{"instances": [[{numbers}]]}}', f'{{"inputs": [{numbers}]}}'):
        assert ask(serve(Looks()), "POST", PREDICT, body).status_code == 200
    assert found == [0, 0]


def test_of_a_request_that_is_late_no_more_parts_are_asked() -> None:
    doubles = Doubles()
    app = serve(doubles, Settings(deadline=0.1))

    async def asked() -> list[int]:
        body = '{"signature_name": "one", "instances": ['
        late = await asking(app, "POST", PREDICT, f"{body}{', '.join('7' * 100)}]}}")
        doubles.go.set()
        return [late.status_code, (await asking(app, "POST", PREDICT, f"{body}1]}}")).status_code]

    assert asyncio.run(asked()) == [504, 200]
    assert sorted(map(len, doubles.asked)) == [1, 16]


def test_a_body_whose_place_was_taken_while_it_came_leaves_its_room() -> None:
    waits, bodies = Waits(), Bodies()
    app = serve(waits, Settings(waiting=1), bodies)

    async def asked() -> list[int]:
        slow = asyncio.create_task(asking(app, "POST", PREDICT, parts([], 2, seconds=0.03)))
        await asyncio.sleep(0.01)
        first = asyncio.create_task(asking(app, "POST", PREDICT, BODY))
        refused = await slow
        held = bodies.held
        waits.go.set()
        return [refused.status_code, held, (await first).status_code]

    assert asyncio.run(asked()) == [503, len(BODY), 200]


def test_more_than_can_wait_are_refused_before_their_bodies_are_parsed_and_the_others_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "REFUSALS", 20)
    waits = Waits()
    app = serve(waits, Settings(waiting=3))

    async def asked() -> list[Any]:
        first = [asyncio.create_task(asking(app, "POST", PREDICT, BODY)) for _ in range(3)]
        await asyncio.sleep(0.05)
        before = time.monotonic()
        refused, *_ = await asyncio.gather(*(asking(app, "POST", PREDICT, "no JSON") for _ in range(4)))
        assert time.monotonic() - before > 0.19  # else those who ask again at once would take all time
        status = await asking(app, "GET", "/v1/models/m")
        waits.go.set()
        return [refused, status, *await asyncio.gather(*first)]

    refused, status, *answers = asyncio.run(asked())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {"error": "3 requests wait already; try again."}
    assert [answer.status_code for answer in (status, *answers)] == [200] * 4


def test_only_who_has_the_token_is_answered() -> None:
    app = serve(settings=Settings(token="söcret"))
    for given in (None, "söcret", "Bearer secret", "Bearersöcret", "Basic söcret", "Bearer söcret2", "Bearer "):
        headers = {} if given is None else {"Authorization": given.encode()}
        for method, target in (("POST", PREDICT), ("GET", "/v1/models/m"), ("GET", "/v1/x"), ("GET", "/metrics")):
            answer = ask(app, method, target, BODY if method == "POST" else None, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json() == {"error": "The header Authorization has not this server's token."}
    for scheme in ("Bearer", "bearer", "BEARER "):  # RFC 9110, 11.1: of any case
        right = {"Authorization": f"{scheme} söcret".encode()}
        assert ask(app, "POST", PREDICT, BODY, headers=right).status_code == 200
    # Who only looks whether it lives knows nothing of it, as browsers that ask whether they may ask.
    assert ask(app, "GET", "/v1/health/live").status_code == 200
    assert ask(app, "OPTIONS", PREDICT, headers={"Origin": "http://a"}).status_code == 200


def test_it_is_ready_when_every_network_has_a_version_that_answers() -> None:
    for version, status in ((Version(Echo()), 200), (Version(None, "broken"), 503)):
        app = application(Models({"m": Model({1: version}, {})}), Turns(Settings()))
        assert [ask(app, "GET", f"/v1/health/{name}").status_code for name in ("ready", "live")] == [status, 200]


def test_metrics_count_by_status_and_measure_by_version_and_signature() -> None:
    app = serve()
    for body in (BODY, '{"instances": [1, 2, 3]}', "{", '{"signature_name": "number", "instances": [1]}'):
        ask(app, "POST", PREDICT, body)
    for name in ("other", "another"):
        ask(app, "GET", f"/v1/models/{name}")
    page = ask(app, "GET", "/monitoring/prometheus/metrics")
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert ask(app, "GET", "/metrics").status_code == 200
    samples = [sample for family in text_string_to_metric_families(page.text) for sample in family.samples]

    def values(name: str) -> dict[tuple[str, ...], float]:
        """By their labels, in the order of these names."""
        of = [sample for sample in samples if sample.name == name]
        return {tuple(value for _, value in sorted(one.labels.items())): one.value for one in of}

    counts = values(":tensorflow:serving:request_count")
    assert counts == {("m", "OK"): 3, ("m", "INVALID_ARGUMENT"): 1, ("", "NOT_FOUND"): 2}
    latency = values(":tensorflow:serving:request_latency_bucket")
    assert list(latency.values()) == sorted(latency.values())
    assert latency["predict", "REST", "+Inf", "m"] == 3  # of those that got an answer
    by_version = values("serving_latency_seconds_count")
    assert by_version == {("m", "serving_default", "1"): 2, ("m", "number", "1"): 1}
    assert values(":tensorflow:serving:request_example_counts_sum") == {("m",): 5}


def test_the_page_of_metrics_has_no_query() -> None:
    answer = ask(serve(), "GET", "/monitoring/prometheus/metrics?x=1")
    path = "/monitoring/prometheus/metrics"
    assert (answer.status_code, answer.text) == (400, f"Unexpected path: {path}?x=1. Should be {path}")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/..%2F..%2Fetc%2Fpasswd",
        "/v1/models/%2E%2E",
        "/%2e%2e/etc/passwd",
        "/v1/models/m%0A/versions/1",
        "/%0A",
        "/v1/models/m/versions/..%2F1",
    ],
)
def test_no_path_of_a_request_leads_to_a_file(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = serve()
    opened: list[Any] = []
    for opening in ("builtins.open", "io.open", "os.open", "os.stat", "os.listdir", "os.scandir"):
        monkeypatch.setattr(opening, lambda *given, **more: opened.append(given))
    answer = ask(app, "GET", target)
    monkeypatch.undo()
    assert (answer.status_code in (400, 404), opened) == (True, [])
    # The application's own refusal, and not that of a framework: with the name as it was asked, if it says one.
    if target.startswith("/v1/"):
        assert list(answer.json()) == ["error"]
    else:
        assert answer.text == "<h1>Not Found</h1>"


@pytest.mark.parametrize("signature", ["float", "fails"])
def test_what_a_request_held_is_free_when_it_is_answered_or_refused(signature: str) -> None:
    held: list[weakref.ref[Any]] = []

    class Looks(Echo):
        def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
            held.append(weakref.ref(inputs["x"]))
            return super().run(signature, inputs)

    app = serve(Looks())
    gc.disable()  # what waits for it would be there for minutes
    try:
        ask(app, "POST", PREDICT, f'{{"signature_name": "{signature}", "instances": [1]}}')
        assert [each() for each in held] == [None]
    finally:
        gc.enable()


def test_what_a_picture_held_that_is_refused_on_the_page_is_free_then() -> None:
    held: list[weakref.ref[Any]] = []

    def inside(encoded: bytes) -> Any:
        decoding = Echo()
        held.append(weakref.ref(decoding))
        raise picture_files.RefusedError("This is no picture.")

    network = Echo()
    network.shown = Shown([], {}, "", {}, inside)  # type: ignore[attr-defined]
    app = serve(network)
    gc.disable()
    try:
        answer = ask(app, "POST", "/page/models/m/versions/1/inside", b"a")
        assert (answer.status_code, answer.json()) == (400, {"error": "This is no picture."})
        assert [each() for each in held] == [None]
    finally:
        gc.enable()
