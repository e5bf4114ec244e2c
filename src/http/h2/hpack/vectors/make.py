#!/usr/bin/env python3
"""Makes the vectors beside it with another implementation of RFC 7541: Python's `hpack` (pip install hpack).

of_python.txt: blocks of its encoder, and the fields that were given to it. A connection begins with `connection`.
for_python.txt: blocks of our encoder, each followed by the fields that its decoder finds. A changed block is put there
by hand, and this program run again.
"""

import pathlib

import hpack
from hpack import HeaderTuple, NeverIndexedHeaderTuple

HERE = pathlib.Path(__file__).parent


def escaped(text):
    """As Rust's `escape_ascii`."""
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}
    return "".join(named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in text)


def lines(fields):
    for field in fields:
        kind = "never" if isinstance(field, NeverIndexedHeaderTuple) else "field"
        name, value = (part if isinstance(part, bytes) else part.encode() for part in field)
        yield f"{kind} {escaped(name)}: {escaped(value)}"


def request(path, *more):
    start = [(":method", "GET"), (":scheme", "https"), (":authority", "www.example.org"), (":path", path)]
    usual = [("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0)"), ("accept", "*/*"), ("accept-encoding", "gzip, br")]
    return [HeaderTuple(*field) for field in start + usual] + list(more)


def octets(first):
    """Each octet once in eight values."""
    return HeaderTuple(b"x-octets", bytes(range(first, first + 32)))


# What a connection does: new sizes of the table between blocks.
CONNECTIONS = [
    [
        request("/"),
        request("/style.css", ("referer", "https://www.example.org/"), NeverIndexedHeaderTuple("cookie", "id=a3fWa; theme=dark")),
        request("/style.css", ("referer", "https://www.example.org/"), NeverIndexedHeaderTuple("cookie", "id=a3fWa; theme=dark")),
        [(":method", "POST"), (":scheme", "http"), (":authority", "h:8080"), (":path", "/upload?a=%2F&b"), ("content-length", "70000")],
        [("grpc-status", "0"), ("grpc-message", "")],
        request("/"),
    ],
    [request("/a"), 300, request("/b"), request("/a", ("x-a", "1")), 0, request("/c"), request("/c"), 4096, request("/d"), request("/d")],
    [1000] + [request(f"/{number}", ("x-large", f"{number}" * 150)) for number in range(1, 8)],
    [[octets(first)] for first in range(0, 256, 32)],
    [200, 2000, request("/"), [("x" * 150, "y" * 150)], [("x" * 150, "y" * 150)], request("/")],
]


def of_python():
    for huffman in (False, True):
        for connection in CONNECTIONS:
            encoder = hpack.Encoder()
            yield "connection"
            for step in connection:
                if isinstance(step, int):
                    encoder.header_table_size = step
                else:
                    yield "block " + encoder.encode(step, huffman=huffman).hex()
                    yield from lines(step)


def for_python():
    decoder = hpack.Decoder()
    for line in (HERE / "for_python.txt").read_text().splitlines():
        if line.startswith("block "):
            yield line
            yield from lines(decoder.decode(bytes.fromhex(line.removeprefix("block ")), raw=True))


for name, made in (("of_python.txt", of_python), ("for_python.txt", for_python)):
    text = "".join(f"{line}\n" for line in made())
    (HERE / name).write_text(f"# Made by make.py with hpack {hpack.__version__}.\n{text}")
