//! The requests of an account to its authority (RFC 8555): signed, with a nonce each, and answered by
//! JSON or by a problem.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Answer, Http, HttpError};
use super::jws::{AccountKey, BadKey, Signer};
use super::stop::Stopped;
use crate::http::Method;
use crate::tls::certificates::Reason;
use crate::tls::{ChallengeKind, LoadError};

/// How often a request is repeated because its nonce is not accepted (RFC 8555, 6.5).
const NONCE_TRIES: usize = 6;

/// Why no certificate was obtained.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// No response.
    #[error("{0}")]
    Network(HttpError),
    /// The authority refuses, or has not found at the host name what it was to find there.
    #[error("{0}")]
    Problem(Problem),
    /// The answer is not that of an ACME server.
    #[error("the answer of {url} is not that of ACME: {reason}")]
    Malformed { url: String, reason: &'static str },
    /// The authority offers other ways to check the host name.
    #[error("the authority does not offer {} for this name", .0.name())]
    NotOffered(ChallengeKind),
    /// No listener can answer any of the challenges.
    #[error("no listener can answer the authority")]
    NoAnswer,
    /// The authority takes too long.
    #[error("the authority has not decided within {0:?}")]
    TooSlow(Duration),
    /// The certificate cannot be used.
    #[error("the certificate that was issued cannot be used: {0}")]
    Certificate(Reason),
    /// The challenge cannot be answered.
    #[error("{0}")]
    Challenge(rustls::Error),
    #[error("the certificate that was issued is for another name")]
    WrongName,
    #[error(transparent)]
    AccountKey(#[from] BadKey),
    /// A key or a request for a certificate cannot be made.
    #[error("{0}")]
    Request(#[from] rcgen::Error),
    /// The file of the authorities that the directory is trusted by.
    #[error("{0}")]
    Ca(LoadError),
    #[error("cannot use the storage {path}: {source}")]
    Storage { path: String, source: io::Error },
}

/// A problem document (RFC 7807; RFC 8555, 6.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Problem {
    status: u16,
    /// Without `urn:ietf:params:acme:error:`.
    kind: String,
    detail: String,
    retry_after: Option<Duration>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, kind, detail, .. } = self;
        match (kind.as_str(), detail.as_str()) {
            ("", "") => write!(f, "status {status}"),
            (kind, "") => f.write_str(kind),
            ("", detail) => f.write_str(detail),
            (kind, detail) => write!(f, "{kind}: {detail}"),
        }
    }
}

impl Problem {
    /// The problem in a response or in a challenge. What the authority says is shortened, and has no
    /// control characters.
    pub(super) fn of(problem: &Value, status: u16, retry_after: Option<Duration>) -> Self {
        const SHOWN_MAX: usize = 500;
        let text = |name: &str| -> String {
            let text = problem[name].as_str().unwrap_or_default();
            text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
        };
        let mut detail = text("detail");
        for inner in problem["subproblems"].as_array().into_iter().flatten() {
            let inner = Self::of(inner, 0, None);
            if detail.len() < SHOWN_MAX {
                detail.push_str(&format!("; {inner}"));
            }
        }
        let kind = text("type");
        let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(&kind).to_owned();
        Self { status, kind, detail, retry_after }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Stopped(stopped) => Self::Stopped(stopped),
            error => Self::Network(error),
        }
    }
}

impl Failure {
    /// How long the authority asks to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(problem) => problem.retry_after,
            _ => None,
        }
    }

    /// What an operator can do.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "",
            Self::Network(HttpError::Tls { .. }) => {
                "if the directory has a certificate of a private authority, name that authority as `acme.ca`"
            }
            Self::Network(_) => "check the URL of the directory, and that this host can connect to it",
            Self::Problem(problem) => match problem.kind.as_str() {
                "rateLimited" => "wait; for tests, use a staging directory, which has higher limits",
                "dns" => "the name needs an address record (A or AAAA) that leads to this host",
                "connection" | "unauthorized" | "tls" | "incorrectResponse" => {
                    "port 80 (http-01) or 443 (tls-alpn-01) at all addresses of the name has to lead to this server"
                }
                "rejectedIdentifier" | "unsupportedIdentifier" => {
                    "the authority does not issue certificates for this name"
                }
                "caa" => "the CAA records of the name forbid this authority",
                "externalAccountRequired" => {
                    "use another directory: accounts that are bound to others are not supported"
                }
                "invalidContact" | "unsupportedContact" => "correct `acme.email`",
                _ => "see what the authority says",
            },
            Self::Malformed { .. } => "check the URL of the directory",
            Self::NotOffered(_) => "remove `acme.challenge`, or set the other one",
            Self::NoAnswer => {
                "add an HTTP listener on port 80 for http-01, or `alpn` to the listener for tls-alpn-01 (not with \
                 certificates of clients required)"
            }
            Self::Storage { .. } => "the user of this process has to be able to write there; see `acme.storage`",
            Self::Ca(_) => "correct `acme.ca`",
            Self::AccountKey(_) => "remove account.pem from the storage: another account is made",
            Self::TooSlow(_) | Self::Certificate(_) | Self::Challenge(_) | Self::WrongName | Self::Request(_) => {
                "it is tried again"
            }
        }
    }
}

/// An account at an authority.
pub(super) struct Account<'a> {
    http: &'a Http,
    key: &'a AccountKey,
    new_nonce: String,
    new_order: String,
    /// Its URL, once it is known.
    url: Option<String>,
    /// For the next request.
    nonce: Option<String>,
}

impl<'a> Account<'a> {
    /// Reads the directory and finds the account of this key, or makes it. A user who configures ACME has
    /// agreed to the terms of service.
    pub(super) fn open(
        http: &'a Http,
        directory: &str,
        key: &'a AccountKey,
        email: Option<&str>,
    ) -> Result<Self, Failure> {
        let answer = http.send(Method::Get, directory, None)?;
        let listed = json_of(directory, &answer)?;
        let url = |name: &str| {
            let malformed =
                || Failure::Malformed { url: directory.to_owned(), reason: "a URL of the directory is missing" };
            listed[name].as_str().map(str::to_owned).ok_or_else(malformed)
        };
        let (new_nonce, new_order) = (url("newNonce")?, url("newOrder")?);
        let mut account = Self { http, key, new_nonce, new_order, url: None, nonce: None };
        let contact: Vec<String> = email.iter().map(|email| format!("mailto:{email}")).collect();
        let mut request = json!({ "termsOfServiceAgreed": true });
        if !contact.is_empty() {
            request["contact"] = contact.into();
        }
        let new_account = url("newAccount")?;
        let answer = account.post(&new_account, Some(&request))?;
        account.url = Some(location(&new_account, &answer)?);
        Ok(account)
    }

    /// Waits, or ends with the server.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        self.http.stop().sleep(time)
    }

    /// What proves that a token was given to this account.
    pub(super) fn authorization(&self, token: &str) -> String {
        self.key.authorization(token)
    }

    /// Orders a certificate for this name. Returns the URL of the order.
    pub(super) fn order(&mut self, domain: &str) -> Result<(String, Value), Failure> {
        let url = self.new_order.clone();
        let request = json!({ "identifiers": [{ "type": "dns", "value": domain }] });
        let answer = self.post(&url, Some(&request))?;
        Ok((location(&url, &answer)?, json_of(&url, &answer)?))
    }

    /// Reads what is at a URL, and how long the authority asks to wait before the next time.
    pub(super) fn read(&mut self, url: &str) -> Result<(Value, Option<Duration>), Failure> {
        let answer = self.post(url, None)?;
        Ok((json_of(url, &answer)?, answer.retry_after))
    }

    /// Reads a text.
    pub(super) fn read_text(&mut self, url: &str) -> Result<String, Failure> {
        let answer = self.post(url, None)?;
        String::from_utf8(answer.body)
            .map_err(|_| Failure::Malformed { url: url.to_owned(), reason: "it is not a text" })
    }

    /// Sends a signed request. A nonce that is not accepted is replaced by the one that comes with the
    /// refusal.
    pub(super) fn post(&mut self, url: &str, payload: Option<&Value>) -> Result<Answer, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce()?,
            };
            let signer = self.url.as_deref().map_or(Signer::Key, Signer::Account);
            let body = self.key.sign(signer, url, &nonce, payload)?;
            let mut answer = self.http.send(Method::Post, url, Some(&body))?;
            self.nonce = answer.nonce.take();
            if (200..300).contains(&answer.status) {
                return Ok(answer);
            }
            let problem = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let problem = Problem::of(&problem, answer.status, answer.retry_after);
            if problem.kind != "badNonce" || tries == NONCE_TRIES {
                return Err(Failure::Problem(problem));
            }
        }
    }

    fn new_nonce(&self) -> Result<String, Failure> {
        let answer = self.http.send(Method::Head, &self.new_nonce, None)?;
        let malformed = || Failure::Malformed { url: self.new_nonce.clone(), reason: "there is no nonce" };
        answer.nonce.ok_or_else(malformed)
    }
}

fn location(url: &str, answer: &Answer) -> Result<String, Failure> {
    let malformed = || Failure::Malformed { url: url.to_owned(), reason: "it has no Location" };
    answer.location.clone().ok_or_else(malformed)
}

fn json_of(url: &str, answer: &Answer) -> Result<Value, Failure> {
    if !(200..300).contains(&answer.status) {
        let problem = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        return Err(Failure::Problem(Problem::of(&problem, answer.status, answer.retry_after)));
    }
    let malformed = |_| Failure::Malformed { url: url.to_owned(), reason: "it is not JSON" };
    serde_json::from_slice(&answer.body).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_parts_and_without_control_characters() {
        let problem = json!({
            "type": "urn:ietf:params:acme:error:compound",
            "detail": "two\nfaults",
            "subproblems": [
                { "type": "urn:ietf:params:acme:error:dns", "detail": "no A record" },
                { "type": "about:blank" },
            ],
        });
        let shown = Problem::of(&problem, 400, None).to_string();
        assert_eq!(shown, "compound: two faults; dns: no A record; about:blank");
        assert_eq!(Problem::of(&Value::Null, 503, None).to_string(), "status 503");
        assert_eq!(Problem::of(&json!({ "detail": "x".repeat(9999) }), 400, None).to_string().len(), 500);
    }

    #[test]
    fn a_limit_says_how_long_to_wait_and_what_to_do() {
        let limited = json!({ "type": "urn:ietf:params:acme:error:rateLimited" });
        let failure = Failure::Problem(Problem::of(&limited, 429, Some(Duration::from_secs(60))));
        assert_eq!(failure.retry_after(), Some(Duration::from_secs(60)));
        assert!(failure.advice().starts_with("wait"));
    }
}
