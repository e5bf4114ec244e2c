//! Options given to `xps run` that override the configuration file.

use super::args::Given;

/// Overriding options by field name, separated by commas.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    command_line: String,
    environment: String,
}

/// Options of `xps run` without a corresponding key of the file.
const NO_KEYS: [&str; 5] = ["file", "profile", "quiet", "log_level", "log_format"];

impl Overrides {
    /// Selects the given options that correspond to a key of the file.
    pub fn of(given: &[Given]) -> Self {
        let list = |is_variable| {
            let names = given.iter().filter(|given| given.is_variable == is_variable).map(|given| given.id.as_str());
            names.filter(|name| !NO_KEYS.contains(name)).collect::<Vec<_>>().join(", ")
        };
        Self { command_line: list(false), environment: list(true) }
    }

    /// Lines for the banner.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let lines = [("command line", &self.command_line), ("environment", &self.environment)];
        lines.into_iter().filter(|(_, names)| !names.is_empty()).map(|(by, names)| format!("  {by} overrides: {names}"))
    }

    /// Logs the overrides, if there are any.
    pub fn tell(&self) {
        let Self { command_line, environment } = self;
        if !command_line.is_empty() || !environment.is_empty() {
            tracing::info!(command_line, environment, "these options override the configuration file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_the_command_line_are_told_apart() {
        let given = |id: &str, is_variable| Given { id: id.to_owned(), is_variable };
        let given =
            [given("backend", false), given("file", false), given("head_timeout", false), given("workers", true)];
        let lines: Vec<String> = Overrides::of(&given).lines().collect();
        assert_eq!(lines, ["  command line overrides: backend, head_timeout", "  environment overrides: workers"]);
        assert_eq!(Overrides::of(&given[1..2]).lines().count(), 0);
    }
}
