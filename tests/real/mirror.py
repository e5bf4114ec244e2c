"""Answers a POST or PUT with the body that came, and with fields that say how it came."""

import http.server


class Mirror(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        if self.headers["Transfer-Encoding"] == "chunked":
            framing, body = "chunked", self.chunks()
        else:
            framing, body = "length", self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("X-Framing", framing)
        self.send_header("X-Expect", self.headers.get("Expect", "nothing"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def chunks(self):
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            assert self.rfile.readline() == b"\r\n"
        while self.rfile.readline() != b"\r\n":
            pass
        return bytes(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Mirror)
print(server.server_port, flush=True)
server.serve_forever()
