//! The `h2` crate without a runtime and without sockets: it reads from and writes to memory, and is polled when that has
//! changed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What `h2` takes for a connection. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Rc<RefCell<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    incoming: VecDeque<u8>,
    has_input_ended: bool,
    outgoing: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Beyond it `h2` waits until something was taken.
const OUTGOING_MAX: usize = 256 << 10;

impl Pipe {
    /// Bytes of the other end.
    pub fn give(&self, bytes: &[u8]) {
        let mut ends = self.0.borrow_mut();
        ends.incoming.extend(bytes);
        wake(&mut ends.reader);
    }

    /// The other end has ended.
    pub fn give_end(&self) {
        let mut ends = self.0.borrow_mut();
        ends.has_input_ended = true;
        wake(&mut ends.reader);
    }

    /// What is to be sent, of which `take` says how much it has taken.
    pub fn take<T>(&self, take: impl FnOnce(&[u8]) -> (usize, T)) -> T {
        let mut ends = self.0.borrow_mut();
        let (taken, result) = take(&ends.outgoing);
        ends.outgoing.drain(..taken);
        if taken > 0 {
            wake(&mut ends.writer);
        }
        result
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.0.borrow_mut();
        let count = ends.incoming.len().min(buffer.remaining());
        if count == 0 && !ends.has_input_ended {
            ends.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes: Vec<u8> = ends.incoming.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.0.borrow_mut();
        let count = bytes.len().min(OUTGOING_MAX.saturating_sub(ends.outgoing.len()));
        if count == 0 && !bytes.is_empty() {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        ends.outgoing.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whether a future wants to be polled.
#[derive(Debug, Default)]
struct Wanted(AtomicBool);

impl Wake for Wanted {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A client, or a server, that runs to its end as its pipe is pumped.
pub struct Running<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    wanted: Arc<Wanted>,
}

impl<'f, T: 'f> Running<'f, T> {
    /// A connection over this pipe, on which `act` makes requests. It ends with GOAWAY behind the last of them; an error of
    /// the connection is a panic.
    pub fn new<F: Future<Output = T> + 'f>(
        pipe: Pipe,
        builder: Builder,
        act: impl FnOnce(SendRequest<Bytes>) -> F + 'f,
    ) -> Self {
        Self::of(async move {
            let (requests, connection) = builder.handshake::<_, Bytes>(pipe).await.expect("a handshake");
            let (mut connection, mut acting) = (pin!(connection), pin!(act(requests)));
            let (mut result, mut has_ended) = (None, false);
            std::future::poll_fn(|cx| {
                if result.is_none()
                    && let Poll::Ready(outcome) = acting.as_mut().poll(cx)
                {
                    result = Some(outcome);
                }
                if !has_ended && let Poll::Ready(end) = connection.as_mut().poll(cx) {
                    end.expect("an orderly end");
                    has_ended = true;
                    cx.waker().wake_by_ref();
                }
                if has_ended { result.take().map_or(Poll::Pending, Poll::Ready) } else { Poll::Pending }
            })
            .await
        })
    }

    /// Anything that reads and writes pipes.
    pub fn of(future: impl Future<Output = T> + 'f) -> Self {
        let wanted = Arc::new(Wanted(AtomicBool::new(true)));
        Self { future: Box::pin(future), wanted }
    }

    /// Goes on as far as it can; `Some` at the end.
    pub fn go_on(&mut self) -> Option<T> {
        let waker = Waker::from(Arc::clone(&self.wanted));
        while self.wanted.0.swap(false, Ordering::SeqCst) {
            if let Poll::Ready(result) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(result);
            }
        }
        None
    }
}

/// Runs all of them at once.
pub async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |cx| {
        for (future, result) in running.iter_mut().filter(|(_, result)| result.is_none()) {
            if let Poll::Ready(outcome) = future.as_mut().poll(cx) {
                *result = Some(outcome);
            }
        }
        let is_over = running.iter().all(|(_, result)| result.is_some());
        if is_over {
            Poll::Ready(running.iter_mut().filter_map(|(_, result)| result.take()).collect())
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Sends a body as far as the windows allow at each time. Returns whether the other end has let it: it may have no use for it.
pub async fn send(stream: &mut SendStream<Bytes>, body: &[u8], is_end: bool) -> bool {
    let mut rest = body;
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let (now, later) = rest.split_at(room.min(rest.len()));
        if stream.send_data(Bytes::copy_from_slice(now), is_end && later.is_empty()).is_err() {
            return false;
        }
        rest = later;
    }
    !(is_end && body.is_empty()) || stream.send_data(Bytes::new(), true).is_ok()
}

/// Reads a body to its end, and gives its windows back.
///
/// # Errors
/// It breaks off.
pub async fn receive(body: &mut RecvStream, mut take: impl FnMut(&[u8])) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        let piece = piece?;
        take(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(())
}
