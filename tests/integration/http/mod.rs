//! `xps serve` over real sockets: what every request, good or bad, gets, on each back-end.
//!
//! Tests are named after the rows of the project's HTTP checklist that they protect. Requests are written out as
//! bytes, answers are read strictly: a wrong length or a byte too many fails.

mod access_log;
mod compression;
mod conditions;
mod connection;
mod content;
mod framing;
mod listing;
mod paths;
mod pressure;
mod ranges;
mod site;
mod special;
mod tools;
