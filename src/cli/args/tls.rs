//! Options of TLS on the addresses to listen on, for `xps serve` and `xps proxy`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// Serve over TLS with this certificate: a PEM file with its chain, such as fullchain.pem
    #[arg(long, value_name = "FILE", env = "XPS_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, in PEM and not encrypted [default: the file of --tls-cert]
    #[arg(long, value_name = "FILE", env = "XPS_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Serve over TLS with a certificate made for this run
    ///
    /// It is for localhost and the addresses to listen on, and valid for 30 days. No client trusts it
    /// by itself: compare the SHA-256 fingerprint in the banner with the one that the client shows, or
    /// use `curl --insecure`.
    #[arg(long, env = "XPS_TLS_SELF_SIGNED", value_parser = BoolishValueParser::new())]
    pub tls_self_signed: bool,
}
