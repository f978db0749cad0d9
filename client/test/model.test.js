// The client and these tests themselves, over real sockets, against the model of the server.
import { ModelServer } from "./model-server.js";
import { suite } from "./suite.js";

suite("against the model of the server", () => ModelServer.start());
