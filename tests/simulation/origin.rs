//! The HTTP servers behind the proxy: what they do with a request, and what they remember of it.
//!
//! A request's path says who asks and how long the answer is to be; how it is framed, when it comes and what goes
//! wrong with it is drawn from the server's habits.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use xps::internals::driver::sim::{Converse, Move, Rng, Step};

use crate::message::{Decoder, Head, chunked, trailers_of};

/// One server; each connection to it has a copy.
#[derive(Clone, Debug)]
pub struct Origin {
    habits: Rc<[Habit]>,
    log: Log,
    /// A cut of it looks like its end.
    says_end: bool,
    state: State,
}

/// What all the servers of a run saw.
pub type Log = Rc<RefCell<Vec<Exchange>>>;

/// One request that arrived, at least its head.
#[derive(Debug)]
pub struct Exchange {
    pub start: String,
    pub id: Option<u32>,
    pub is_upgrade: bool,
    pub body: Vec<u8>,
    pub trailers: Vec<String>,
    pub takes_trailers: bool,
    /// Its end was there, too.
    pub is_whole: bool,
    pub malformed: Option<String>,
    pub habit: Habit,
    /// The end of its connection is one in order, also where it is cut.
    pub says_end: bool,
}

/// A way to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habit {
    pub framing: Framing,
    pub pace: Pace,
    /// It answers without having read the body.
    pub is_early: bool,
    /// It says first that there will be an answer.
    pub is_announced: bool,
    pub cut: Option<Cut>,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    AtOnce,
    After(Duration),
    Pieces {
        bytes: usize,
        every: Duration,
    },
    /// With a rest somewhere in the middle.
    Halting(Duration),
}

/// Where an answer breaks off, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub place: Place,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    BeforeIt,
    Head,
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Close,
    Reset,
    /// It ends its side and goes on reading.
    HalfClose,
    /// It says nothing more, ever.
    Silence,
}

/// What follows a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    Keep,
    /// It has said that it would.
    CloseAsAnnounced,
    /// Without a word, after a while, whatever has been asked meanwhile.
    Fail(Fault, Duration),
    /// Bytes that belong to nothing.
    Chatter,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Body {
        exchange: usize,
        decoder: Decoder,
    },
    /// It sends back what it hears, or only so many bytes of it.
    Upgraded(Option<(usize, Fault)>),
    /// It makes no sense of what it hears any more.
    Lost,
}

impl Origin {
    pub fn new(habits: &[Habit], log: &Log, says_end: bool) -> Self {
        Self { habits: habits.into(), log: Rc::clone(log), says_end, state: State::Head }
    }

    /// What every answer to this request holds.
    pub fn answer(id: u32, length: usize) -> Vec<u8> {
        Rng::new(u64::from(id)).bytes(length)
    }

    /// How it writes down what it was sent.
    pub fn digest(body: &[u8]) -> String {
        let hash = body
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{}-{hash:x}", body.len())
    }

    fn hear_head(&mut self, unread: &[u8], rng: &mut Rng) -> Option<Move> {
        let habit = self.habits[rng.below(self.habits.len() as u64) as usize];
        let mut exchange = Exchange {
            start: String::new(),
            id: None,
            is_upgrade: false,
            body: Vec::new(),
            trailers: Vec::new(),
            takes_trailers: false,
            is_whole: false,
            malformed: None,
            habit,
            says_end: self.says_end,
        };
        let (decoder, taken) = match read_request(unread, &mut exchange) {
            Ok(None) => return None,
            Ok(Some(read)) => read,
            Err(what) => {
                exchange.malformed = Some(what);
                self.log.borrow_mut().push(exchange);
                self.state = State::Lost;
                return Some(Move { taken: unread.len(), steps: vec![Step::Reset] });
            }
        };
        let mut log = self.log.borrow_mut();
        if let (true, Some(id)) = (exchange.is_upgrade, exchange.id) {
            exchange.is_whole = true;
            let exchange_start = exchange.start.clone();
            log.push(exchange);
            // Drawn from nothing, so that seeds keep their meaning.
            let bytes = target(&exchange_start).map_or(0, |(_, length)| id as usize * 7919 % (length + 1));
            let breaks = habit.cut.filter(|cut| cut.place == Place::Body).map(|cut| (bytes, cut.fault));
            self.state = State::Upgraded(breaks.filter(|(left, _)| *left > 0));
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-Id: {id}\r\n\r\n"
            );
            let steps = match (habit.cut, breaks) {
                (Some(cut), None) => fail(cut.fault),
                (_, Some((0, fault))) => {
                    self.state = State::Lost;
                    [sending(head.into_bytes(), habit.pace, rng), fail(fault)].concat()
                }
                _ => sending(head.into_bytes(), habit.pace, rng),
            };
            return Some(Move { taken, steps });
        }
        let steps = if habit.is_early && decoder != Decoder::Done { steps(&exchange, rng) } else { Vec::new() };
        log.push(exchange);
        self.state = State::Body { exchange: log.len() - 1, decoder };
        Some(Move { taken, steps })
    }

    fn hear_body(&mut self, unread: &[u8], rng: &mut Rng) -> Option<Move> {
        let State::Body { exchange: number, decoder } = &mut self.state else { return None };
        let mut log = self.log.borrow_mut();
        let exchange = &mut log[*number];
        let was_done = *decoder == Decoder::Done;
        let is_answered = exchange.habit.is_early && !was_done;
        let taken = match decoder.decode(unread, &mut exchange.body, &mut exchange.trailers) {
            Ok(taken) => taken,
            Err(what) => {
                exchange.malformed = Some(what);
                self.state = State::Lost;
                return Some(Move { taken: unread.len(), steps: vec![Step::Reset] });
            }
        };
        if *decoder != Decoder::Done {
            return (taken > 0).then_some(Move { taken, steps: Vec::new() });
        }
        exchange.is_whole = true;
        let steps = if is_answered { Vec::new() } else { steps(exchange, rng) };
        self.state = State::Head;
        Some(Move { taken, steps })
    }
}

impl Converse for Origin {
    fn hear(&mut self, unread: &[u8], _: bool, rng: &mut Rng) -> Option<Move> {
        match self.state {
            State::Head if unread.is_empty() => None,
            State::Head => self.hear_head(unread, rng),
            State::Body { .. } => self.hear_body(unread, rng),
            State::Upgraded(_) if unread.is_empty() => None,
            State::Upgraded(Some((left, fault))) if left <= unread.len() => {
                self.state = State::Lost;
                Some(Move { taken: left, steps: [vec![Step::Send(unread[..left].to_vec())], fail(fault)].concat() })
            }
            State::Upgraded(breaks) => {
                self.state = State::Upgraded(breaks.map(|(left, fault)| (left - unread.len(), fault)));
                Some(Move { taken: unread.len(), steps: vec![Step::Send(unread.to_vec())] })
            }
            State::Lost => None,
        }
    }

    fn copied(&self) -> Box<dyn Converse> {
        Box::new(self.clone())
    }
}

/// How its body is framed, and how long its head is.
fn read_request(bytes: &[u8], exchange: &mut Exchange) -> Result<Option<(Decoder, usize)>, String> {
    let Some(head) = Head::read(bytes)? else { return Ok(None) };
    head.start.clone_into(&mut exchange.start);
    exchange.id = Some(target(head.start).ok_or_else(|| format!("not a request of ours: {:?}", head.start))?.0);
    head.field("Host").ok_or("no host")?;
    exchange.takes_trailers = match (head.field("TE"), head.field("Connection")) {
        (None, _) => false,
        (Some("trailers"), Some("TE" | "upgrade, TE")) => true,
        wish => return Err(format!("a wish for trailers of {wish:?}")),
    };
    exchange.is_upgrade = head.field("Upgrade").is_some();
    Ok(Some((head.framing()?.unwrap_or(Decoder::Done), head.length)))
}

/// Who asks, and for how much: `METHOD /id/length HTTP/1.1`.
fn target(start: &str) -> Option<(u32, usize)> {
    let path = start.split(' ').nth(1)?.strip_prefix('/')?;
    let (id, length) = path.split_once('/')?;
    Some((id.parse().ok()?, length.parse().ok()?))
}

/// How a request is answered.
fn steps(exchange: &Exchange, rng: &mut Rng) -> Vec<Step> {
    let (habit, (id, length)) = (exchange.habit, target(&exchange.start).expect("it was read before"));
    let mut head = if habit.is_announced { "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" } else { "" }.to_owned();
    head += &format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\n");
    if !habit.is_early {
        head += &format!("X-Body: {}\r\n", Origin::digest(&exchange.body));
    }
    let is_head = exchange.start.starts_with("HEAD ");
    // An answer without a body does not show that it ends with the connection.
    if habit.then == Then::CloseAsAnnounced || (is_head && habit.framing == Framing::UntilClose) {
        head += "Connection: close\r\n";
    }
    let body = Origin::answer(id, length);
    let (line, body) = match habit.framing {
        Framing::Length => (format!("Content-Length: {length}\r\n"), body),
        Framing::Chunked => {
            let drawn = rng.length(length);
            // One byte each, and what each costs. Drawn from nothing, so that seeds keep their meaning.
            let chunk_bytes = if length % 4 == 3 { 1 } else { drawn };
            let trailers = trailers_of(id);
            let mut line = "Transfer-Encoding: chunked\r\n".to_owned();
            if !trailers.is_empty() {
                // The second field is for another hop, the first one says what becomes of it.
                line += "X-Trailers: yes\r\nTrailer: X-First, X-Only\r\n";
            }
            (line, chunked(&body, chunk_bytes, trailers))
        }
        Framing::UntilClose => (String::new(), body),
    };
    head += &line;
    head += "\r\n";
    let mut bytes = head.clone().into_bytes();
    if !is_head {
        bytes.extend(body);
    }
    let fault = match habit.cut {
        Some(Cut { place, fault }) => {
            let end = match place {
                Place::BeforeIt => 0,
                Place::Head => rng.below(head.len() as u64) as usize,
                Place::Body => head.len() + rng.below((bytes.len() - head.len()).max(1) as u64) as usize,
            };
            bytes.truncate(end);
            fail(fault)
        }
        None => match habit.then {
            Then::Keep if habit.framing != Framing::UntilClose => Vec::new(),
            Then::Keep | Then::CloseAsAnnounced => fail(Fault::HalfClose),
            Then::Fail(_, _) if habit.framing == Framing::UntilClose => fail(Fault::HalfClose),
            Then::Fail(fault, after) => [vec![Step::Stall(after)], fail(fault)].concat(),
            Then::Chatter => {
                bytes.extend_from_slice(b"HTTP is not what this is\r\n");
                Vec::new()
            }
        },
    };
    let mut steps = sending(bytes, habit.pace, rng);
    steps.extend(fault);
    steps
}

fn sending(bytes: Vec<u8>, pace: Pace, rng: &mut Rng) -> Vec<Step> {
    match pace {
        Pace::AtOnce => vec![Step::Send(bytes)],
        Pace::After(rest) => vec![Step::Stall(rest), Step::Send(bytes)],
        Pace::Pieces { bytes: least, every } if !bytes.is_empty() => {
            let piece_bytes = least.max(bytes.len() / 50).max(1);
            vec![Step::SendSlowly { bytes, piece_bytes, every }]
        }
        Pace::Pieces { .. } => Vec::new(),
        Pace::Halting(rest) => {
            let (front, back) = bytes.split_at(rng.below(bytes.len() as u64 + 1) as usize);
            vec![Step::Send(front.to_vec()), Step::Stall(rest), Step::Send(back.to_vec())]
        }
    }
}

fn fail(fault: Fault) -> Vec<Step> {
    match fault {
        Fault::Close => vec![Step::Close],
        Fault::Reset => vec![Step::Reset],
        Fault::HalfClose => vec![Step::ShutdownWrite, Step::ReadUntilEof, Step::Close],
        Fault::Silence => vec![Step::ReadUntilEof, Step::Close],
    }
}

impl Habit {
    /// With nothing special about it.
    pub const fn plain() -> Self {
        Self {
            framing: Framing::Length,
            pace: Pace::AtOnce,
            is_early: false,
            is_announced: false,
            cut: None,
            then: Then::Keep,
        }
    }

    pub fn draw(rng: &mut Rng) -> Self {
        let framing = match rng.below(5) {
            0..2 => Framing::Length,
            2..4 => Framing::Chunked,
            _ => Framing::UntilClose,
        };
        let rest = Duration::from_micros(if rng.coin() { rng.below(500) } else { rng.below(200_000) });
        let pace = match rng.below(6) {
            0 => Pace::After(rest),
            1 => Pace::Pieces { bytes: rng.length(20_000), every: rest / 20 },
            2 => Pace::Halting(rest),
            _ => Pace::AtOnce,
        };
        let then = if rng.below(6) == 0 { Then::CloseAsAnnounced } else { Then::Keep };
        Self { framing, pace, is_early: false, is_announced: rng.below(6) == 0, cut: None, then }
    }

    /// Whether a client cannot but take a part of it for the whole.
    pub fn is_cut_in_silence(&self) -> bool {
        self.framing == Framing::UntilClose
            && matches!(self.cut, Some(Cut { fault: Fault::Close | Fault::HalfClose, .. }))
    }
}
