//! What must hold for any bytes at all that a TLS client sends. As in `properties.rs`.

use std::convert::Infallible;

use xps::internals::buffer::{Pool, PoolConfig, SizeClass};
use xps::internals::tls::{ClientHello, Handshake, HelloError, Stream, seeded};

/// A ClientHello is found, refused or not complete, and which of these does not depend on how its bytes arrive. A name
/// in it can be written into a log.
pub fn client_hello(bytes: &[u8]) {
    let whole = ClientHello::read(bytes);
    if let Ok(hello) = &whole {
        if let Some(name) = &hello.server_name {
            assert!((1..=255).contains(&name.len()), "{name:?}");
            assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()), "{name:?}");
        }
        assert_eq!(ClientHello::read(&[bytes, b"more"].concat()), whole, "what follows it does not change it");
    }
    for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        match ClientHello::read(&bytes[..cut]) {
            Err(HelloError::Partial) => {}
            early => assert_eq!(early, whole, "at {cut}"),
        }
    }
}

thread_local! {
    /// Made once: that takes longer than most inputs.
    static POOL: Pool = Pool::new(PoolConfig { small_bytes: 4 << 10, small_max: 64, large_max: 0, ..PoolConfig::default() });
}

/// A server takes any records, whole or in pieces: it goes on waiting or fails, once and for all, and holds no more
/// memory than it may. What is random in it is the same each time.
pub fn records(bytes: &[u8]) {
    let pool = POOL.with(Pool::clone);
    for piece_bytes in [bytes.len().max(1), 7] {
        seeded::seed(0);
        let mut stream = seeded::server_stream().expect("it can be used");
        let mut fault = None;
        for piece in bytes.chunks(piece_bytes.min(4096)) {
            let fill = |memory: &mut [u8]| {
                memory[..piece.len()].copy_from_slice(piece);
                Ok::<_, Infallible>(piece.len())
            };
            let Some(Ok(buffer)) = pool.filled(SizeClass::Small, fill) else { panic!("the pool is large enough") };
            stream.feed(buffer);
            while stream.take().is_some() {}
            drop(stream.take_output());
            if let Handshake::Failed(now) = stream.handshake() {
                assert!(fault.is_none_or(|before| before == now), "{fault:?}, then {now:?}");
                fault = Some(now);
            } else {
                assert_eq!(fault, None, "a fault does not go away");
            }
            assert!(stream.memory() <= Stream::MEMORY_MAX + 4096, "{} bytes", stream.memory());
        }
        assert!(!stream.is_established(), "a handshake without a client");
    }
}
