"""Stands in for the server behind a proxy: an event stream that says who asked, and with what.

    upstream.py PORT

It sends one event, and a second one after SECONDS, in which nothing may be held back.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 2


class Events(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        asked = {"peer": self.client_address[0], "path": self.path, "headers": dict(self.headers)}
        self.chunk(f"data: {json.dumps(asked)}\n\n")
        if self.path.startswith("/sse"):
            time.sleep(SECONDS)
            self.chunk("data: second\n\n")
        self.chunk("")

    def chunk(self, text):
        self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
        self.wfile.flush()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Events).serve_forever()
