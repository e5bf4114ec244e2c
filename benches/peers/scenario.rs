//! The table of scenarios: what is asked and answered, over how many connections.

/// One kind of exchange. To add one, add a row to [`SCENARIOS`].
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Connections that each keep one exchange under way.
    pub connections: usize,
    /// Bytes of a request, head and padding.
    pub request_bytes: usize,
    /// Bytes of a response's body; its head comes on top.
    pub body_bytes: usize,
    /// Of each connection's responses the first and then every so-manyth is compared byte by byte;
    /// all are counted. Where bodies are large, comparing all would make the load generator, not
    /// the server, the slow one.
    pub compare_every: u64,
    /// Peers that have a mode for moving bulk use it.
    pub bulk: bool,
}

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "small", connections: 64, request_bytes: 100, body_bytes: 612, compare_every: 1, bulk: false },
    Scenario { name: "bulk", connections: 64, request_bytes: 100, body_bytes: 1 << 20, compare_every: 16, bulk: true },
];

/// What ends a request; a request contains it nowhere else.
pub const REQUEST_END: &[u8; 4] = b"\r\n\r\n";

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// A request: valid HTTP, although a TCP relay does not look, so that other load generators can
    /// take the place of ours.
    pub fn request(&self) -> Vec<u8> {
        let mut request = b"GET / HTTP/1.1\r\nHost: origin.test\r\nX-Padding: ".to_vec();
        let padded = self.request_bytes.saturating_sub(REQUEST_END.len()).max(request.len());
        request.resize(padded, b'x');
        request.extend_from_slice(REQUEST_END);
        request
    }

    /// A response: valid HTTP. The body has no short period, so bytes that were lost, doubled or
    /// swapped show.
    pub fn response(&self) -> Vec<u8> {
        let mut response =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", self.body_bytes)
                .into_bytes();
        let mut state = 0x9e37_79b9_u32;
        response.extend((0..self.body_bytes).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + ((state >> 24) % 26) as u8
        }));
        response
    }
}
