//! `xps` over real sockets, on both back-ends: one program of tests with a module for each subject, so that what they
//! share is compiled and linked once. CONTRIBUTING.md says which tests are programs of their own, and why.

#[path = "../support/mod.rs"]
mod support;

mod origin;
mod place;
mod wire;

mod acme;
mod bench;
mod cli;
mod connect;
mod delivery;
mod demo;
mod echo;
mod explain;
mod features;
mod http;
mod http2;
mod http_proxy;
mod http_upstream;
mod limit;
mod operate;
mod operation;
mod options;
mod overload;
mod protocol;
mod proxy;
mod proxy_protocol;
mod receive;
mod refused;
mod reverse;
mod run;
mod send;
mod shutdown;
mod slow_readers;
mod stages;
mod syslog;
mod tls;
mod tls_worker;
mod top;
mod unix;
