//! Tests that every file that passes the checks can be resolved.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::file;
use crate::tls::acme::LETS_ENCRYPT;
use crate::tls::{
    AcmeIssuer, AcmeSource, CertificateSource, ClientAuth, ClientAuthMode, MinVersion, Misdirected, ServerSettings,
    UnknownName,
};

/// A file with a proxy route and a redirect, whose texts the edits below replace.
fn document(change: impl FnOnce(&mut Value)) -> Value {
    let mut document = json!({
        "access_log": "off",
        "servers": [{
            "listeners": [{ "port": 8080 }],
            "hostnames": [],
            "routes": [
                {
                    "req_path": "/api",
                    "type": "reverse_proxy",
                    "upstreams": ["127.0.0.1:3000"],
                    "request_headers": { "set": {}, "add": {}, "remove": [] },
                    "response_headers": { "set": {}, "add": {}, "remove": [] },
                },
                { "req_path": "/old", "type": "redirect", "redirect_url": "/new" },
            ],
        }],
    });
    change(&mut document);
    document
}

/// Puts a text at a certain key.
type Edit = fn(&mut Value, &str);

const EDITS: [(&str, Edit); 14] = [
    ("req_path", |document, text| proxy(document)["req_path"] = json!(text)),
    ("strip_prefix", |document, text| {
        proxy(document)["req_path"] = json!("/");
        proxy(document)["strip_prefix"] = json!(text);
    }),
    ("replace_prefix", |document, text| proxy(document)["replace_prefix"] = json!(text)),
    ("req_path and replace_prefix", |document, text| {
        proxy(document)["req_path"] = json!(text);
        proxy(document)["replace_prefix"] = json!("/");
    }),
    ("set", |document, text| proxy(document)["request_headers"]["set"] = json!({ text: "a" })),
    ("add", |document, text| proxy(document)["response_headers"]["add"] = json!({ text: ["a", "b"] })),
    ("remove", |document, text| proxy(document)["request_headers"]["remove"] = json!([text])),
    ("a value", |document, text| proxy(document)["request_headers"]["set"] = json!({ "X": text })),
    ("values", |document, text| proxy(document)["response_headers"]["add"] = json!({ "X": [text] })),
    ("host", |document, text| proxy(document)["host"] = json!(text)),
    ("via", |document, text| proxy(document)["via"] = json!(text)),
    ("upstreams", |document, text| proxy(document)["upstreams"] = json!([text])),
    ("hostnames", |document, text| document["servers"][0]["hostnames"] = json!([text])),
    ("redirect_url", |document, text| document["servers"][0]["routes"][1]["redirect_url"] = json!(text)),
];

fn proxy(document: &mut Value) -> &mut Value {
    &mut document["servers"][0]["routes"][0]
}

/// Whether this text passes the checks there. If so, the server and its router can be built.
#[track_caller]
fn passes((name, put): (&str, Edit), text: &str) -> bool {
    let document = document(|document| put(document, text)).to_string();
    let Ok(file) = file::parse(&document) else { return false };
    let built = resolve(&file, Path::new("/"), 1);
    let config = built.unwrap_or_else(|error| panic!("{name}: {text:?} passes the checks: {error}"));
    let router = crate::core::router_of(&config.listeners[0].service);
    assert!(router.is_ok(), "{name}: {text:?} passes the checks: {:?}", router.err());
    true
}

#[test]
fn what_is_refused_is_refused_by_the_checks() {
    for bad in ["Host", "proxy-authorization", "Proxy-Authenticate", "Proxy-Authentication-Info", "TE", "a b", ""] {
        for target in EDITS.into_iter().filter(|(name, _)| ["set", "add", "remove"].contains(name)) {
            assert!(!passes(target, bad), "{}: {bad}", target.0);
        }
    }
    for bad in ["/a%zz", "/%", "/a%00", "/..", "/a b", "/a?", "a", "/a\u{7f}", ""] {
        for target in EDITS.into_iter().filter(|(name, _)| name.ends_with("prefix") || name.starts_with("req_path")) {
            assert!(!passes(target, bad), "{}: {bad}", target.0);
        }
    }
}

#[test]
fn what_is_odd_and_well_is_built() {
    for good in ["/gr\u{fc}n", "/a%20b", "/a//b/", "/x/../y", "/%C3%BC", "/a|b"] {
        for target in EDITS.into_iter().filter(|(name, _)| name.ends_with("prefix") || name.starts_with("req_path")) {
            assert!(passes(target, good), "{}: {good}", target.0);
        }
    }
}

/// The listeners of the server that these servers describe, in the folder `/etc/xps`.
fn listeners(servers: Value) -> Vec<crate::config::ListenerConfig> {
    let file = file::parse(&json!({ "access_log": "off", "servers": servers }).to_string());
    let file = file.unwrap_or_else(|problems| panic!("{}", problems[0]));
    resolve(&file, Path::new("/etc/xps"), 1).unwrap().listeners
}

#[test]
fn servers_that_share_a_listener_share_their_certificates_with_the_default_server_s_first() {
    let server = |names: Value, cert: &str| {
        let tls = json!({ "certificates": [{ "cert": cert, "key": "/keys/k" }, { "cert": "both.pem" }] });
        json!({ "listeners": [{ "port": 443, "tls": tls }], "hostnames": names, "routes": [] })
    };
    let listeners = listeners(json!([server(json!(["a.org"]), "a.pem"), server(json!([]), "other.pem")]));
    let [listener] = listeners.as_slice() else { panic!("it is one") };
    let files = |cert: &str, key: &str| CertificateSource::Files { cert: cert.into(), key: key.into() };
    let expected = [
        files("/etc/xps/other.pem", "/keys/k"),
        files("/etc/xps/both.pem", "/etc/xps/both.pem"),
        files("/etc/xps/a.pem", "/keys/k"),
    ];
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.certificates, expected);
    assert_eq!((&tls.alpn, tls.tickets), (&HTTP_PROTOCOLS.map(|name| name.as_bytes().to_vec()).to_vec(), true));
    assert_eq!(listener.service_name(), "https");
    assert!(matches!(&listener.service, ServiceConfig::Http(RouterConfig { scheme: Scheme::Https, .. })));
}

#[test]
fn certificates_are_obtained_for_the_domains_or_else_for_the_host_names() {
    let server = |names: Value, acme: Value| json!({ "listeners": [{ "port": 443, "tls": { "acme": acme } }], "hostnames": names, "routes": [] });
    let listeners = listeners(json!([
        server(json!(["A.org", "b.org"]), json!({ "storage": "acme", "email": "a@a.org" })),
        server(json!(["c.org"]), json!({ "domains": ["d.org", "d.org"], "storage": "acme", "email": "a@a.org" })),
    ]));
    let [listener] = listeners.as_slice() else { panic!("it is one") };
    let issuer = Arc::new(AcmeIssuer {
        directory: LETS_ENCRYPT.to_owned(),
        email: Some("a@a.org".to_owned()),
        storage: "/etc/xps/acme".into(),
        ca: None,
        challenge: None,
    });
    let expected = ["a.org", "b.org", "d.org"]
        .map(|domain| CertificateSource::Acme(AcmeSource { domain: domain.to_owned(), issuer: Arc::clone(&issuer) }));
    assert_eq!(listener.tls.as_ref().map(|tls| tls.certificates.as_slice()), Some(&expected[..]));
}

#[test]
fn tls_options_are_those_of_the_listener() {
    let tls = json!({
        "certificates": [{ "cert": "c", "key": "k" }],
        "min_version": "1.3",
        "client_auth": { "ca": "ca.pem", "mode": "request" },
        "alpn": ["postgresql"],
        "tickets": false,
        "session_cache": 7,
        "unknown_name": "refuse",
        "misdirected": "serve",
    });
    let servers = json!([{
        "listeners": [{ "port": 1, "tls": tls }, { "port": 2 }], "protocol": "tcp", "handler": "echo"
    }]);
    let listeners = listeners(servers);
    let expected = ServerSettings {
        min_version: MinVersion::Tls13,
        client_auth: Some(ClientAuth { ca: "/etc/xps/ca.pem".into(), mode: ClientAuthMode::Request }),
        alpn: vec![b"postgresql".to_vec()],
        tickets: false,
        session_cache: 7,
        unknown_name: UnknownName::Refuse,
        misdirected: Misdirected::Serve,
        ..ServerSettings::new(vec![CertificateSource::Files { cert: "/etc/xps/c".into(), key: "/etc/xps/k".into() }])
    };
    assert_eq!(listeners.iter().map(|listener| listener.tls.clone()).collect::<Vec<_>>(), [Some(expected), None]);
    assert_eq!([listeners[0].service_name(), listeners[1].service_name()], ["echo over TLS", "echo"]);
}

#[test]
fn a_listener_that_redirects_to_https_has_no_other_route_and_hsts_goes_over_tls_only() {
    let tls = json!({ "certificates": [{ "cert": "c" }] });
    let servers = json!([{
        "listeners": [
            { "port": 80, "redirect_to_https": true },
            { "port": 8080, "redirect_to_https": 8443 },
            { "port": 81 },
            { "port": 443, "tls": tls },
        ],
        "hostnames": ["example.org"],
        "hsts": {},
        "routes": [
            { "req_path": "/", "type": "metrics" },
            { "req_path": "/api", "type": "reverse_proxy", "upstreams": ["a:1"] },
        ],
    }]);
    let routers: Vec<RouterConfig> = listeners(servers)
        .into_iter()
        .map(|listener| match listener.service {
            ServiceConfig::Http(router) => router,
            service => panic!("{} is no HTTP", service.name()),
        })
        .collect();
    let [standard, other, plain, over_tls] = routers.as_slice() else { panic!("there are four") };
    for (router, url) in [(standard, "https://$host$path?$query"), (other, "https://$host:8443$path?$query")] {
        let [route] = router.hosts[0].routes.as_slice() else { panic!("it has one route") };
        let HandlerConfig::Redirect { status, url: template } = &route.handler else { panic!("it redirects") };
        assert_eq!((status.code(), template), (308, &RedirectTemplate::parse(url).unwrap()));
        assert_eq!(router.hosts[0].names, ["example.org"]);
    }
    let hsts = |router: &RouterConfig| {
        let HandlerConfig::Forward(forward) = &router.hosts[0].routes[1].handler else { panic!("it forwards") };
        [router.responses.hsts.clone(), router.hosts[0].routes[0].responses.hsts.clone(), forward.response.hsts.clone()]
    };
    assert_eq!((hsts(plain), plain.scheme), ([None, None, None], Scheme::Http));
    let value = Some("max-age=31536000".to_owned());
    assert_eq!((hsts(over_tls), over_tls.scheme), ([value.clone(), value.clone(), value], Scheme::Https));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_the_checks_can_be_built(
        target in 0..EDITS.len(),
        text in "(/|unix:|https://|\\*\\.|)[a-zA-Zé0-9%/ .:$?#+\\[\\]_\t\u{a0}-]{0,12}(:80|)",
    ) {
        passes(EDITS[target], &text);
    }
}
