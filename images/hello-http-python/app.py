"""A `wasi:http` 0.2 handler, with `asyncio` on an event loop that waits in `wasi:io/poll`.

| request | answer |
|---|---|
| `GET /` | a greeting |
| `/echo`, by any method | the request's body, streamed back |
"""

import asyncio
from contextlib import suppress

from poll_loop import PollLoop, Sink, Stream
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingResponse, ResponseOutparam
from wit_world.types import Err, Ok


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        # The client may be gone; then there is nobody to tell.
        with suppress(Err):
            loop.run_until_complete(answer(request, response_out))


async def answer(request: IncomingRequest, out: ResponseOutparam) -> None:
    path, _, _ = (request.path_with_query() or "/").partition("?")
    match path:
        case "/":
            await say(out, 200, "hello from Python\n")
        case "/echo":
            await echo(request, out)
        case _:
            await say(out, 404, f"nothing at {path}\n")


async def say(out: ResponseOutparam, status: int, text: str) -> None:
    body = begin(out, status)
    await body.send(text.encode())
    body.close()


async def echo(request: IncomingRequest, out: ResponseOutparam) -> None:
    """Streams the request's body back while it is still arriving."""
    incoming, body = Stream(request.consume()), begin(out, 200)
    while chunk := await incoming.next():
        await body.send(chunk)
    body.close()


def begin(out: ResponseOutparam, status: int) -> Sink:
    """Sends the head of the response."""
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
    response.set_status_code(status)
    body = Sink(response.body())
    ResponseOutparam.set(out, Ok(response))
    return body
