//! Options of TLS on the addresses to listen on, for `xps serve` and `xps proxy`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::config::file::{AcmeDomain, DirectoryUrl, Email};

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

    /// Serve over TLS with certificates from Let's Encrypt for these host names, and renew them
    ///
    /// The authority has to reach this server at port 443 of each name. Using this means that you agree to the
    /// terms of service of the authority.
    #[arg(long, value_name = "NAME,…", env = "XPS_ACME", value_delimiter = ',')]
    pub acme: Vec<AcmeDomain>,

    /// Address for mail from the authority of --acme
    #[arg(long, value_name = "EMAIL", env = "XPS_ACME_EMAIL", requires = "acme")]
    pub acme_email: Option<Email>,

    /// Directory of another authority for --acme [default: that of Let's Encrypt]
    #[arg(long, value_name = "URL", env = "XPS_ACME_DIRECTORY", requires = "acme")]
    pub acme_directory: Option<DirectoryUrl>,

    /// Folder for the certificates of --acme and their keys
    ///
    /// Default: `acme` in $STATE_DIRECTORY, else `xps/acme` in $XDG_STATE_HOME or ~/.local/state.
    #[arg(long, value_name = "DIR", env = "XPS_ACME_STORAGE", requires = "acme")]
    pub acme_storage: Option<PathBuf>,
}
