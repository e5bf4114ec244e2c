//! What was given, on the command line or by a variable, as opposed to what holds by default.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// As it is called among the options: `head_timeout`.
    pub id: String,
    /// By a variable, not on the command line.
    pub is_variable: bool,
}

/// The arguments of a command that were given, in the order of their names. (The matches name groups of them as well.)
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
