//! `xps man`: manual pages, generated from the definition of the command line.

use std::io;

use super::args;

/// The page of the program, or of one of its commands.
///
/// # Errors
/// The command does not exist. Writing to memory does not fail.
pub fn page(command: Option<&str>) -> io::Result<Vec<u8>> {
    let mut definition = args::definition();
    // Only a built definition has names like `xps-proxy` and the global options in each command.
    definition.build();
    let described = match command {
        Some(name) => definition.find_subcommand(name).cloned().ok_or(io::ErrorKind::NotFound)?,
        None => definition,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(described).render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        for name in args::DOCUMENTED {
            let page = String::from_utf8(page(Some(name)).unwrap()).unwrap();
            assert!(page.contains(&format!("xps\\-{name}")), "{page}");
        }
    }

    #[test]
    fn the_page_names_environment_variables() {
        let page = String::from_utf8(page(None).unwrap()).unwrap();
        assert!(page.contains("XPS_IDLE_TIMEOUT"), "{page}");
    }
}
