"""WebSocket (RFC 6455) with nothing but the standard library.

    websocket.py serve             echoes messages; its first line is the port
    websocket.py talk HOST:PORT    sends messages and checks their echoes; ends with 0 if all is well
"""

import base64
import hashlib
import http.server
import os
import socket
import struct
import sys

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FINAL = 0x80


def accept_of(key):
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def exactly(stream, length):
    data = stream.read(length)
    if len(data) < length:
        raise EOFError(f"{len(data)} of {length} bytes")
    return data


def masked(payload, mask):
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")
    return number.to_bytes(len(payload), "big")


def read_frame(stream):
    """The first byte, which is the kind and whether it is final, and the payload."""
    first, second = exactly(stream, 2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", exactly(stream, 2))
    elif length == 127:
        (length,) = struct.unpack(">Q", exactly(stream, 8))
    mask = exactly(stream, 4) if second & 0x80 else None
    payload = exactly(stream, length)
    return first, masked(payload, mask) if mask else payload


def frame(first, payload, mask=None):
    flag = 0x80 if mask else 0
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", first, flag | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, flag | 126, length)
    else:
        head = struct.pack(">BBQ", first, flag | 127, length)
    return head + (mask + masked(payload, mask) if mask else payload)


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        if self.headers.get("Upgrade", "").lower() != "websocket":
            self.send_error(426)
            return
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept_of(self.headers["Sec-WebSocket-Key"]))
        self.end_headers()
        while True:
            first, payload = read_frame(self.rfile)
            if first == FINAL | PING:
                first = FINAL | PONG
            # Each frame is echoed by itself, so a message in fragments stays one.
            self.wfile.write(frame(first, payload))
            if first == FINAL | CLOSE:
                return

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


def serve():
    server = Server(("127.0.0.1", 0), Echo)
    print(server.server_port, flush=True)
    server.serve_forever()


def talk(address):
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream = connection.makefile("rb")
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /echo HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    status = stream.readline().decode()
    fields = {}
    while (line := stream.readline().decode().strip()) != "":
        name, value = line.split(":", 1)
        fields[name.lower()] = value.strip()
    assert status.split()[1] == "101", status
    assert fields["sec-websocket-accept"] == accept_of(key), fields
    assert fields["upgrade"].lower() == "websocket" and fields["connection"].lower() == "upgrade", fields

    def check(first, payload, answer=None):
        connection.sendall(frame(first, payload, os.urandom(4)))
        got = read_frame(stream)
        expected = (first if answer is None else answer, payload)
        assert got == expected, f"{got[0]:#x} with {len(got[1])} bytes, not {expected[0]:#x} with {len(payload)}"

    check(FINAL | TEXT, "Grüße, \u4f60\u597d".encode())
    check(FINAL | BINARY, os.urandom(100_000))
    check(FINAL | TEXT, b"")
    check(FINAL | PING, b"there?", FINAL | PONG)
    # A message in three fragments, and a ping between them.
    check(BINARY, os.urandom(70_000))
    check(FINAL | PING, b"", FINAL | PONG)
    check(0, os.urandom(1))
    check(FINAL, os.urandom(65_536))
    for number in range(300):
        check(FINAL | TEXT, f"message {number}".encode())
    check(FINAL | CLOSE, struct.pack(">H", 1000) + b"done")
    assert stream.read() == b"", "more after the closing frame"
    print("all well")


if sys.argv[1] == "serve":
    serve()
else:
    talk(sys.argv[2])
