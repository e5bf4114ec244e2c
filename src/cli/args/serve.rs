//! Options of `xps serve`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LogOptions;
use super::server::{H2cOption, HttpOptions, ServerOptions, SocketOptions};
use super::tls::TlsOptions;
use crate::cli::units::{ResponseHeader, StatusPage};
use crate::config::ListenAddress;
use crate::config::file::AccessTarget;
use crate::config::units::Size;
use crate::file::compress;
use crate::http::charset::Charset;
use crate::telemetry::access_log::AccessFormat;

#[derive(Args, Debug)]
pub struct ServeOptions {
    /// Folder to serve
    #[arg(value_name = "DIR", env = "XPS_DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Address to listen on; may be repeated. PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8001")]
    pub listen: Vec<ListenAddress>,
    /// Index files: the first that exists is sent for its folder
    #[arg(long, value_name = "NAME,…", env = "XPS_INDEX", value_delimiter = ',', default_value = "index.html")]
    pub index: Vec<String>,
    /// Do not list folders without an index file
    #[arg(long, env = "XPS_NO_LISTING", value_parser = BoolishValueParser::new())]
    pub no_listing: bool,
    /// Serve files and folders whose name begins with a dot
    #[arg(long, env = "XPS_DOT_FILES", value_parser = BoolishValueParser::new())]
    pub dot_files: bool,
    /// Serve this file for paths that do not exist (single-page applications)
    #[arg(long, value_name = "FILE", env = "XPS_FALLBACK")]
    pub fallback: Option<String>,
    /// Do not follow symbolic links [default: follow those that stay in the folder]
    #[arg(long, env = "XPS_NO_SYMLINKS", value_parser = BoolishValueParser::new())]
    pub no_symlinks: bool,
    /// Do not compress responses
    #[arg(long, env = "XPS_NO_COMPRESSION", value_parser = BoolishValueParser::new())]
    pub no_compression: bool,
    /// Compression level, 1 to 9 [default: a fast level of each coding]
    #[arg(long, value_name = "LEVEL", env = "XPS_COMPRESSION_LEVEL", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub compression_level: Option<u8>,
    /// Do not compress files smaller than this
    #[arg(long, value_name = "SIZE", env = "XPS_COMPRESSION_MIN_SIZE", default_value_t = Size(compress::SIZE_MIN as usize))]
    pub compression_min_size: Size,
    /// Do not send FILE.br, FILE.zst or FILE.gz in place of FILE
    #[arg(long, env = "XPS_NO_PRECOMPRESSED")]
    pub no_precompressed: bool,
    /// Charset of text files: a name, `off`, or `auto` (utf-8 if a file is UTF-8 and not plain ASCII)
    #[arg(long, value_name = "auto|off|NAME", env = "XPS_CHARSET", default_value_t = Charset::Auto)]
    pub charset: Charset,
    /// The origin whose scripts may read the files: `*`, or one like `https://example.org`
    #[arg(long, value_name = "ORIGIN", env = "XPS_CORS")]
    pub cors: Option<String>,
    /// Add a header field to every response that is not an error, replacing the server's own; may be repeated (in the variable: one per line)
    #[arg(long, value_name = "NAME: VALUE", env = "XPS_HEADER", value_delimiter = '\n')]
    pub header: Vec<ResponseHeader>,
    /// Send this file as the page of an error status; may be repeated
    #[arg(long, value_name = "STATUS=FILE", env = "XPS_ERROR_PAGE", value_delimiter = ',')]
    pub error_page: Vec<StatusPage>,
    /// Value of the `Server` field; --server-name '' omits the field
    #[arg(long, value_name = "NAME", env = "XPS_SERVER_NAME", default_value = "xps")]
    pub server_name: String,
    /// Access log: `-` for standard output, a file (reopened on SIGUSR1), syslog:unix:/PATH or syslog:udp:HOST:PORT, or `off`
    #[arg(long, value_name = "-|FILE|syslog:…|off", env = "XPS_ACCESS_LOG", default_value = "-")]
    pub access_log: AccessTarget,
    /// Format of the access log
    #[arg(long, value_name = "FORMAT", env = "XPS_ACCESS_FORMAT", default_value = "combined")]
    pub access_format: AccessFormat,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub tls: TlsOptions,

    #[command(flatten)]
    pub h2c: H2cOption,
    #[command(flatten)]
    pub http_limits: HttpOptions,
    #[command(flatten)]
    pub log: LogOptions,
}
