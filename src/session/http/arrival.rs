//! A request has arrived: which route it takes, and what that leads to.

use super::After;
use super::answer::{Answer, Body, Exchange, Offer};
use super::forward::Forward;
use super::front::{Front, Handler, Host};
use super::record::Record;
use super::site::Site;
use super::unwanted::Unwanted;
use crate::driver::Time;
use crate::file::store::Inquiry;
use crate::http::forward::forwards_left;
use crate::http::redirect::Template;
use crate::http::{BodyReader, Expect, Known, Refusal, RequestHead, Status};
use crate::session::Context;
use crate::telemetry::access::{AccessLog, Draft};
use crate::telemetry::metrics;

/// What a visitor is told who asks too often; that it may do so again in a second goes with the status.
const TOO_SOON: Refusal = Refusal::new(Status::TOO_MANY_REQUESTS, "you ask too often");

/// What a visitor is told who comes when there are as many as there may be.
pub(super) const FULL: Refusal = Refusal::new(Status::SERVICE_UNAVAILABLE, "too many are here; try again");

/// What a visitor is told for whose request there is no route.
const NOTHING: Refusal = Refusal::new(Status::NOT_FOUND, "nothing is served here");

/// What is known of a request beside its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// When it was first looked at.
    pub(super) since: Time,
    /// Whether client and limits allow another request after it.
    pub(super) keep_alive: bool,
    /// Whether it was not looked at before.
    pub(super) is_new: bool,
    /// Whether it came on a connection that is one too many.
    pub(super) is_surplus: bool,
}

/// What a request leads to.
pub(super) enum Judgement {
    /// The store has to look something up; the same request is judged again after that.
    Wait,
    /// An answer, and what follows it.
    Answer(Answer, After),
    /// An upstream answers.
    Forward(Box<Forward>),
}

/// What the worker itself answers with.
enum Matter<'a> {
    Files,
    Redirect(Status, &'a Template),
    Metrics,
    /// What upstreams may be asked for, since they may not be asked themselves.
    Options,
    Refusal(Refusal),
}

impl Matter<'_> {
    const fn offer(&self) -> Offer {
        match self {
            Self::Files | Self::Metrics => Offer::Reading,
            Self::Redirect(..) => Offer::Elsewhere,
            // Of what is refused before it is looked at, only what was to be passed on is refused for its method.
            Self::Options | Self::Refusal(_) => Offer::Upstreams,
        }
    }
}

impl Arrival {
    /// Finds what answers the request, and has it answer.
    pub(super) fn judge(&self, front: &Front, head: &RequestHead<'_>, cx: &mut Context<'_>) -> Judgement {
        let visitor = cx.admission.visitor(cx.peer, head.fields.all_known(Known::XForwardedFor));
        let host = front.host_for(head);
        let draft = log_of(front, host).map(|log| log.begin(visitor, head, cx.unix_seconds));
        if self.is_surplus {
            return self.serve(&front.fallback, &Matter::Refusal(FULL), head, draft, cx);
        }
        if self.is_new && cx.admission.is_too_soon(visitor, cx.now) {
            return self.serve(&front.fallback, &Matter::Refusal(TOO_SOON), head, draft, cx);
        }
        let route = match host.map_or(Ok(None), |host| front.route(host, head, visitor)) {
            Ok(Some(route)) => route,
            Ok(None) => return self.serve(&front.fallback, &Matter::Refusal(NOTHING), head, draft, cx),
            Err(refusal) => return self.serve(&front.fallback, &Matter::Refusal(refusal), head, draft, cx),
        };
        let arrival = Self { keep_alive: self.keep_alive && route.keep_alive, ..*self };
        let matter = match &route.handler {
            Handler::Files => Matter::Files,
            Handler::Redirect(status, template) => Matter::Redirect(*status, template),
            Handler::Metrics => Matter::Metrics,
            Handler::Forward(_) if forwards_left(head) == Some(0) => Matter::Options,
            Handler::Forward(forwarding) => match Forward::new(forwarding, head, visitor, arrival.keep_alive, cx) {
                Ok(forward) => return Judgement::Forward(Box::new(forward.recorded_in(draft))),
                Err(refusal) => Matter::Refusal(refusal),
            },
        };
        arrival.serve(&route.site, &matter, head, draft, cx)
    }

    /// Has the worker itself answer.
    fn serve(
        &self,
        site: &Site,
        matter: &Matter<'_>,
        head: &RequestHead<'_>,
        draft: Option<Draft>,
        cx: &mut Context<'_>,
    ) -> Judgement {
        let body = Unwanted::new(BodyReader::from(head.framing), cx.limits.http.discard_bytes_max);
        // A client that waits for a go-ahead gets an answer instead, and may or may not send its body now.
        let is_body_read = body.as_ref().is_none_or(|body| body.is_short() && head.expect == Expect::None);
        let mut exchange = Exchange {
            site,
            head,
            offer: matter.offer(),
            keep_alive: self.keep_alive && is_body_read,
            inquiry: Inquiry { waiter: cx.session, now: cx.now, since: self.since },
            unix_seconds: cx.unix_seconds,
            date: cx.date,
            store: cx.store,
            boundaries: cx.boundaries,
            ops: cx.ops,
        };
        let mut answer = match matter {
            Matter::Files => match exchange.answer() {
                Some(answer) => answer,
                None => return Judgement::Wait,
            },
            Matter::Redirect(status, template) => exchange.redirect(*status, template),
            Matter::Metrics => exchange.text(metrics::CONTENT_TYPE, || cx.counting.metrics().text()),
            Matter::Options => exchange.options(),
            Matter::Refusal(refusal) => exchange.refuse(*refusal),
        };
        tracing::debug!(method = head.method.as_str(), status = answer.status.code(), "request");
        match (draft, &answer.body) {
            (None, _) => {}
            (Some(draft), Body::Sent) => {
                draft.finish(answer.status.code(), answer.body_bytes, cx.now.since(self.since));
            }
            (Some(draft), _) => answer.record = Some(Box::new(Record::new(draft, answer.status, self.since))),
        }
        let after = After::new(answer.keep_alive, body);
        Judgement::Answer(answer, after)
    }
}

/// The beginning of the request's line in the access log, if it is to leave one.
pub(super) fn draft(front: &Front, head: &RequestHead<'_>, cx: &Context<'_>) -> Option<Draft> {
    let log = log_of(front, front.host_for(head))?;
    let visitor = cx.admission.visitor(cx.peer, head.fields.all_known(Known::XForwardedFor));
    Some(log.begin(visitor, head, cx.unix_seconds))
}

/// Where a host's requests are recorded; those for which there is none, where it is recorded what is no request.
fn log_of<'f>(front: &'f Front, host: Option<&'f Host>) -> Option<&'f AccessLog> {
    host.map_or_else(|| front.access_log(), |host| host.access_log.as_ref())
}
