//! Which options were given, on the command line or by an environment variable, rather than left at
//! their defaults.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The name of the option's field: `head_timeout`.
    pub id: String,
    /// Given by an environment variable, not on the command line.
    pub is_variable: bool,
}

/// The arguments of a command that were given, sorted by name. (The matches also contain groups.)
pub fn given(command: &Command, matches: &ArgMatches) -> Vec<Given> {
    let mut given: Vec<Given> = (command.get_arguments())
        .filter_map(|argument| {
            let id = argument.get_id().as_str();
            let is_variable = match matches.try_contains_id(id).ok().and(matches.value_source(id))? {
                ValueSource::EnvVariable => true,
                ValueSource::CommandLine => false,
                _ => return None,
            };
            Some(Given { id: id.to_owned(), is_variable })
        })
        .collect();
    given.sort_by(|a, b| a.id.cmp(&b.id));
    given
}
