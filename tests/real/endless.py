"""Answers each request with the bytes of a file over and over, chunked, and says when that is no longer wanted.

    endless.py FILE
"""

import http.server
import sys

with open(sys.argv[1], "rb") as file:
    CONTENT = file.read()


class Endless(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # Chunks of many sizes, some of which need several reads.
        sizes = [1, 4_000, 100_000, 77]
        position = count = 0
        try:
            while True:
                piece = CONTENT[position : position + sizes[count % len(sizes)]]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                position = (position + len(piece)) % len(CONTENT)
                count += 1
        except OSError as error:
            self.close_connection = True
            print("broken off:", type(error).__name__, flush=True)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Endless)
print(server.server_port, flush=True)
server.serve_forever()
