//! What was given, on the command line or by a variable, as opposed to what holds by default.

use clap::ArgMatches;
use clap::parser::ValueSource;

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// As it is called among the options: `head_timeout`.
    pub id: String,
    /// By a variable, not on the command line.
    pub is_variable: bool,
}

/// The options that were given, in the order of their names.
pub fn given(matches: &ArgMatches) -> Vec<Given> {
    let mut given: Vec<Given> = (matches.ids())
        .filter_map(|id| {
            // A group of options is among the names, too, and has no source.
            let is_variable = match matches.try_contains_id(id.as_str()).ok().and(matches.value_source(id.as_str()))? {
                ValueSource::EnvVariable => true,
                ValueSource::CommandLine => false,
                _ => return None,
            };
            Some(Given { id: id.as_str().to_owned(), is_variable })
        })
        .collect();
    given.sort_by(|a, b| a.id.cmp(&b.id));
    given
}
