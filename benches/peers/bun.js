// Bun's server.publish is uWebSockets, in C++. `/raw/{topic}` subscribes; what a client sends goes to the topic's others.

const PREFIX = "/raw/";
const BACKLOG = 64 << 20;

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith(PREFIX)) return new Response(null, { status: 404 });
    const topic = pathname.slice(PREFIX.length);
    return server.upgrade(request, { data: { topic } }) ? undefined : new Response(null, { status: 400 });
  },
  websocket: {
    // No pings and no time-outs: the benchmark counts bytes. A backlog over the limit is dropped silently otherwise.
    sendPings: false,
    idleTimeout: 0,
    backpressureLimit: BACKLOG,
    perMessageDeflate: false,
    open(socket) {
      socket.subscribe(socket.data.topic);
    },
    message(socket, message) {
      socket.publish(socket.data.topic, message);
    },
  },
});
