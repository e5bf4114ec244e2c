//! Files, permissions and io_uring features as text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::TextError;
use crate::driver::Feature;
use crate::nearest::nearest;
use crate::telemetry::access_log::{BadTemplate, LineFormat, Template, VARIABLES};
use crate::telemetry::{BadSyslog, SyslogConfig};

/// The destination of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessTarget {
    /// `off`: no access log.
    Off,
    /// `-`: standard output.
    #[default]
    Stdout,
    /// A file. It is reopened on SIGUSR1.
    File(PathBuf),
    /// A syslog daemon.
    Syslog(SyslogConfig),
}

impl FromStr for AccessTarget {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text {
            "" => Err(TextError::new("write off, - for standard output, a file, or syslog:unix:/PATH")),
            "off" => Ok(Self::Off),
            "-" => Ok(Self::Stdout),
            text if text.starts_with("syslog:") => {
                text.parse().map(Self::Syslog).map_err(|bad: BadSyslog| TextError::new(bad.to_string()))
            }
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
            Self::Syslog(config) => config.fmt(f),
        }
    }
}

/// What lines of an access log look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat(pub LineFormat);

impl FromStr for LogFormat {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let bad = match text {
            "combined" => return Ok(Self(LineFormat::Combined)),
            "json" => return Ok(Self(LineFormat::Json)),
            template => match Template::new(template) {
                Ok(template) => return Ok(Self(LineFormat::Template(template.into()))),
                Err(bad) => bad,
            },
        };
        let meant = match &bad {
            BadTemplate::Unknown(name) => nearest(name, VARIABLES.iter().map(|(name, _)| *name)),
            _ => None,
        };
        Err(TextError::new(match meant {
            Some(meant) => format!("{bad}; did you mean `${meant}`?"),
            None if bad == BadTemplate::Constant => "write combined, json, or a template such as $host $status".into(),
            None => bad.to_string(),
        }))
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            LineFormat::Combined => f.write_str("combined"),
            LineFormat::Json => f.write_str("json"),
            LineFormat::Template(template) => template.fmt(f),
        }
    }
}

/// A path that stays beneath the folder it is relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathBeneath(pub String);

impl FromStr for PathBeneath {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.is_empty() || text.starts_with('/') || text.contains('\0') || text.split('/').any(|part| part == "..") {
            Err(TextError::new("not a path beneath the folder: it must not begin with `/` or contain `..`"))
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for PathBeneath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The permissions of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        const PERMISSIONS: u32 = 0o777;
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= PERMISSIONS && !text.starts_with('+'));
        mode.map(Self).ok_or_else(|| TextError::new("not permissions: write them in octal, for example 0660"))
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// An optional io_uring feature, by the name that `xps probe` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringFeature(pub Feature);

impl FromStr for UringFeature {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        text.parse().map(Self).map_err(|error| TextError::new(format!("{error}")))
    }
}

impl fmt::Display for UringFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
