// An echo of WebSocket messages (RFC 6455) on Node's own HTTP server. Its first line is the port.
'use strict';

const crypto = require('crypto');
const http = require('http');

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const CLOSE = 0x88, PING = 0x89, PONG = 0x8a;

// The first whole frame in a buffer, and what follows it; null if there is none yet.
function parse(buffer) {
    if (buffer.length < 2) return null;
    let length = buffer[1] & 0x7f, at = 2;
    if (length === 126) {
        if (buffer.length < 4) return null;
        length = buffer.readUInt16BE(2);
        at = 4;
    } else if (length === 127) {
        if (buffer.length < 10) return null;
        length = Number(buffer.readBigUInt64BE(2));
        at = 10;
    }
    if (buffer.length < at + 4 + length) return null;
    const mask = buffer.subarray(at, at + 4);
    const payload = Buffer.from(buffer.subarray(at + 4, at + 4 + length));
    for (let i = 0; i < payload.length; i++) payload[i] ^= mask[i & 3];
    return { first: buffer[0], payload, rest: buffer.subarray(at + 4 + length) };
}

function frame(first, payload) {
    let head;
    if (payload.length < 126) {
        head = Buffer.from([first, payload.length]);
    } else if (payload.length < 65536) {
        head = Buffer.from([first, 126, 0, 0]);
        head.writeUInt16BE(payload.length, 2);
    } else {
        head = Buffer.alloc(10);
        head[0] = first;
        head[1] = 127;
        head.writeBigUInt64BE(BigInt(payload.length), 2);
    }
    return Buffer.concat([head, payload]);
}

const server = http.createServer((request, response) => response.writeHead(426).end());

server.on('upgrade', (request, socket, head) => {
    const accept = crypto.createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
    socket.on('error', () => {});
    socket.setNoDelay(true);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    let waiting = head;
    const answer = (data) => {
        waiting = Buffer.concat([waiting, data]);
        for (let next; (next = parse(waiting)) !== null; waiting = next.rest) {
            // Each frame is echoed by itself, so a message in fragments stays one.
            socket.write(frame(next.first === PING ? PONG : next.first, next.payload));
            if (next.first === CLOSE) return socket.end();
        }
    };
    socket.on('data', answer);
    answer(Buffer.alloc(0));
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
