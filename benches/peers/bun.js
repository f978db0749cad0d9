// Bun's WebSocket server is uWebSockets, in C++, and so is its publish. `/raw/{topic}` subscribes, and what a client sends
// goes to the topic's others; on any path below `/echo` it comes back. Environment: PORT, DEFLATE=1, BACKLOG in bytes,
// TLS_CERTIFICATE and TLS_KEY, two files, for TLS.

const deflate = process.env.DEFLATE === "1";
const { TLS_CERTIFICATE, TLS_KEY } = process.env;

Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  tls: TLS_KEY && { cert: Bun.file(TLS_CERTIFICATE), key: Bun.file(TLS_KEY) },
  fetch(request, server) {
    const [, kind, topic] = new URL(request.url).pathname.split("/");
    const known = kind === "echo" || (kind === "raw" && topic);
    if (!known) return new Response(null, { status: 404 });
    const data = { topic: kind === "raw" ? topic : null };
    return server.upgrade(request, { data }) ? undefined : new Response(null, { status: 400 });
  },
  websocket: {
    // No pings and no time-outs: the load judges every byte. Beyond the backlog, Bun drops messages.
    sendPings: false,
    idleTimeout: 0,
    backpressureLimit: Number(process.env.BACKLOG ?? 16 << 20),
    perMessageDeflate: deflate,
    open(socket) {
      if (socket.data.topic !== null) socket.subscribe(socket.data.topic);
    },
    message(socket, message) {
      if (socket.data.topic !== null) socket.publish(socket.data.topic, message, deflate);
      else socket.send(message, deflate);
    },
  },
});
