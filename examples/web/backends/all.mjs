// All demos' backends on one connection: UPROAR_BACKEND_KEY=… node --experimental-websocket examples/web/backends/all.mjs
//
// On one, because the server spreads rooms over the backends that are connected: each has to be able to answer any room.
import { connect } from "./connect.mjs";
import { game } from "./game.mjs";
import { stream } from "./stream.mjs";
import { ticker } from "./ticker.mjs";

const backend = connect();
for (const demo of [game, stream, ticker]) demo(backend);
