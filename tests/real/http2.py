"""A client on Python's h2, which keeps the rules of RFC 9113 and raises an error where the server does not.

Arguments: the address of a server of files, with /file.bin of so many bytes (the third argument), and that of a
proxy before mirror.py, which sends back what it gets.
"""

import socket
import sys

import h2.config
import h2.connection
import h2.events


class Client:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.connection.local_settings.initial_window_size = 100_000
        self.bodies, self.heads, self.ended = {}, {}, set()
        self.flush()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def begin(self, method, path, is_end):
        stream = self.connection.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "h"), (":path", path)]
        self.connection.send_headers(stream, head, end_stream=is_end)
        self.bodies[stream] = b""
        self.flush()
        return stream

    def upload(self, stream, body):
        while body:
            size = min(self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size)
            if size == 0:
                self.turn()
                continue
            self.connection.send_data(stream, body[:size], pad_length=None)
            body = body[size:]
            self.flush()
        self.connection.end_stream(stream)
        self.flush()

    def turn(self):
        data = self.socket.recv(65536)
        assert data, "the server ended the connection"
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                raise AssertionError(event)
        self.flush()

    def response(self, stream):
        while stream not in self.ended:
            self.turn()
        return self.heads[stream], self.bodies[stream]


files, gateway, size = sys.argv[1], sys.argv[2], int(sys.argv[3])

client = Client(files)
streams = [client.begin("GET", "/file.bin", True) for _ in range(20)]
bodies = set()
for stream in streams:
    head, body = client.response(stream)
    assert head[":status"] == "200" and len(body) == size, (head, len(body))
    bodies.add(body)
assert len(bodies) == 1
head, body = client.response(client.begin("GET", "/none", True))
assert head[":status"] == "404", head

client = Client(gateway)
streams = [client.begin("POST", "/", False) for _ in range(5)]
for number, stream in enumerate(streams):
    client.upload(stream, bytes([number]) * 300_000)
for number, stream in enumerate(streams):
    head, body = client.response(stream)
    assert head[":status"] == "200" and body == bytes([number]) * 300_000, (head, len(body))
print("all well")
