//! `xps run`: a configuration file, and what happens to a server over its life: it is checked, reloaded, replaced, and
//! looked after by a service manager.

mod balance;
mod bounds;
mod check;
mod choice;
mod endpoint;
mod exchanges;
mod explain;
mod full;
mod health;
mod idle;
mod leaks;
mod load;
mod metrics;
mod names;
mod operated;
mod profile;
mod proxied;
mod queue;
mod relay;
mod reload;
mod replace;
mod roots;
mod routes;
mod systemd;
mod unix;
