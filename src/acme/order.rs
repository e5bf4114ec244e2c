//! One order: from the host name to a certificate (RFC 8555, 7.4).
//!
//! ```text
//!   order ─► authorization ─► challenge published ─► authority validates ─► finalize ─► certificate
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use super::protocol::{Account, Failure, Problem};
use crate::tls::{ChallengeKind, ChallengeTokens, Issued};

/// The first wait for a decision of the authority; each further one is half as long again.
const POLL_MIN: Duration = Duration::from_millis(250);
const POLL_MAX: Duration = Duration::from_secs(10);

/// How long the authority may take for one decision.
const DECISION_MAX: Duration = Duration::from_secs(120);

/// What one order is for, and where its challenges are answered.
pub(super) struct Order<'a> {
    pub(super) domain: &'a str,
    pub(super) kind: ChallengeKind,
    pub(super) issued: &'a [Arc<Issued>],
    pub(super) tokens: &'a ChallengeTokens,
    pub(super) provider: &'a CryptoProvider,
}

impl Order<'_> {
    /// Gets a certificate with a key of its own: the chain and the key, in PEM.
    pub(super) fn obtain(&self, account: &mut Account<'_>) -> Result<String, Failure> {
        let (url, order) = account.order(self.domain)?;
        for authorization in order["authorizations"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.authorize(account, authorization)?;
        }
        let order = await_decision(account, &url, |status| status != "pending")?;
        if order["status"] == "invalid" {
            return Err(Failure::Problem(Problem::of(&order["error"], 0, None)));
        }
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![self.domain.to_owned()])?;
        parameters.distinguished_name = DistinguishedName::new();
        let request = parameters.serialize_request(&key)?;
        let finalize = text(&order, "finalize", &url)?;
        account.post(finalize, Some(&json!({ "csr": super::jws::base64url(request.der()) })))?;
        let order = await_decision(account, &url, |status| status == "valid" || status == "invalid")?;
        if order["status"] == "invalid" {
            return Err(Failure::Problem(Problem::of(&order["error"], 0, None)));
        }
        let mut pem = account.read_text(text(&order, "certificate", &url)?)?;
        if !pem.ends_with('\n') {
            pem.push('\n');
        }
        pem.push_str(&key.serialize_pem());
        Ok(pem)
    }

    /// Shows that the host name leads here. An authorization that still holds needs nothing.
    fn authorize(&self, account: &mut Account<'_>, url: &str) -> Result<(), Failure> {
        let (authorization, _) = account.read(url)?;
        if authorization["status"] == "valid" {
            return Ok(());
        }
        let offered = |authorization: &Value| {
            let mut challenges = authorization["challenges"].as_array().into_iter().flatten().cloned();
            challenges.find(|challenge| challenge["type"] == self.kind.name())
        };
        let challenge = offered(&authorization).ok_or(Failure::NotOffered(self.kind))?;
        let (token, ready) = (text(&challenge, "token", url)?, text(&challenge, "url", url)?);
        let _published = self.publish(token, &account.authorization(token))?;
        account.post(ready, Some(&json!({})))?;
        let authorization = await_decision(account, url, |status| status != "pending")?;
        if authorization["status"] == "valid" {
            return Ok(());
        }
        let error = offered(&authorization).map(|challenge| challenge["error"].clone()).unwrap_or_default();
        Err(Failure::Problem(Problem::of(&error, 0, None)))
    }

    /// Answers the challenge until the result is dropped.
    fn publish(&self, token: &str, authorization: &str) -> Result<Published<'_>, Failure> {
        match self.kind {
            ChallengeKind::Http => {
                self.tokens.insert(token, authorization);
                Ok(Published::Token(self.tokens, token.to_owned()))
            }
            ChallengeKind::TlsAlpn => {
                // RFC 8737, 3.
                let mut parameters = CertificateParams::new(vec![self.domain.to_owned()])?;
                let hash = digest(&SHA256, authorization.as_bytes());
                parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(hash.as_ref())];
                let key = KeyPair::generate()?;
                let chain = vec![parameters.self_signed(&key)?.der().clone()];
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                // Not compared with the key: that would refuse the critical extension.
                let key = self.provider.key_provider.load_private_key(key).map_err(Failure::Challenge)?;
                let answer = Arc::new(CertifiedKey::new(chain, key));
                self.issued.iter().for_each(|issued| issued.set_challenge(Some(Arc::clone(&answer))));
                Ok(Published::Certificate(self.issued))
            }
        }
    }
}

/// A challenge that is answered as long as this lives.
enum Published<'a> {
    Token(&'a ChallengeTokens, String),
    Certificate(&'a [Arc<Issued>]),
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        match self {
            Self::Token(tokens, token) => tokens.remove(token),
            Self::Certificate(issued) => issued.iter().for_each(|issued| issued.set_challenge(None)),
        }
    }
}

/// Reads an order or an authorization until its status is decided.
fn await_decision(account: &mut Account<'_>, url: &str, is_decided: impl Fn(&str) -> bool) -> Result<Value, Failure> {
    let (until, mut wait) = (Instant::now() + DECISION_MAX, POLL_MIN);
    loop {
        let (state, asked) = account.read(url)?;
        if is_decided(state["status"].as_str().unwrap_or_default()) {
            return Ok(state);
        }
        if Instant::now() + wait >= until {
            return Err(Failure::TooSlow(DECISION_MAX));
        }
        account.sleep(asked.unwrap_or(wait).clamp(wait, POLL_MAX))?;
        wait = wait.mul_f64(1.5).min(POLL_MAX);
    }
}

fn text<'v>(value: &'v Value, name: &'static str, url: &str) -> Result<&'v str, Failure> {
    value[name].as_str().ok_or_else(|| Failure::Malformed { url: url.to_owned(), reason: name })
}
