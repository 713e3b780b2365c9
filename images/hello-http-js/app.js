// A `wasi:http` 0.2 handler: the engine makes an event of a request, and takes the response. It has one such event, so
// that an instance is for one request.
//
// | request | answer |
// |---|---|
// | `GET /` | a greeting |
// | `/echo`, by any method | the request's body, streamed back |

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

function answer(request) {
  const { pathname } = new URL(request.url);
  switch (pathname) {
    case "/":
      return new Response("hello from JavaScript\n");
    case "/echo":
      return new Response(request.body);
    default:
      return new Response(`nothing at ${pathname}\n`, { status: 404 });
  }
}
