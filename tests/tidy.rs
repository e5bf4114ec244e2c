//! The rules of this repository that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_below(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Whether all of it is a test module: `tests.rs`, or a file in a folder `tests`.
    fn is_test_module(&self) -> bool {
        self.path.iter().any(|part| part == "tests.rs" || part == "tests")
    }

    /// Each line with its number, code only: what follows `//` is cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    /// The same, up to the tests, which stand last in a file.
    fn code_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take_while(|(_, line)| line.trim() != "#[cfg(test)]")
    }
}

/// Paths are relative to the repository.
fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                let path = path.strip_prefix(root).expect("it was found below").to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(!sources.is_empty());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Shows every offence at once.
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

/// Whether `word` stands in `line` by itself, not as a part of another.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        !is_part(line[..start].chars().next_back()) && !is_part(line[start + word.len()..].chars().next())
    })
}

/// In two parts, so that this file does not find itself.
const UNSAFE: &str = concat!("un", "safe");

#[test]
fn the_kernel_and_raw_memory_are_touched_in_two_folders_only() {
    let mut offences = Vec::new();
    for source in sources(&["src", "tests"]) {
        if source.is_below("src/driver") || source.is_below("src/buffer") {
            continue;
        }
        for (number, line) in source.code().filter(|(_, line)| has_word(line, UNSAFE) && !line.contains('"')) {
            offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
        }
    }
    assert_none("only src/driver, src/buffer and benches may use what the compiler cannot check", &offences);
}

#[test]
fn each_unchecked_block_says_why_it_is_sound() {
    let mut offences = Vec::new();
    for source in sources(&["src", "benches"]) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code().filter(|(_, line)| has_word(line, UNSAFE)) {
            let opens = ["{", "impl", "fn"].iter().any(|next| line.contains(&format!("{UNSAFE} {next}")));
            if opens && !is_explained(&lines, number - 1) {
                offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
            }
        }
    }
    assert_none("a `// SAFETY:` comment (on a function, `# Safety` in its documentation) is missing", &offences);
}

/// Whether the line, or the comment above the statement that it belongs to, gives the reason.
fn is_explained(lines: &[&str], index: usize) -> bool {
    const STATEMENT_LINES_MAX: usize = 3;
    let gives_reason = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    let mut statement_lines = 0;
    for line in lines[..=index].iter().rev() {
        let line = line.trim();
        if gives_reason(line) {
            return true;
        }
        if !line.starts_with("//") && !line.starts_with("#[") {
            statement_lines += 1;
            if statement_lines > STATEMENT_LINES_MAX {
                return false;
            }
        }
    }
    false
}

#[test]
fn each_file_begins_with_what_it_is() {
    let mut offences = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if !source.text.starts_with("//!") {
            offences.push(source.path.display().to_string());
        }
    }
    assert_none("files that do not begin with a `//!` comment", &offences);
}

#[test]
fn nothing_outside_tests_gives_up() {
    let mut offences = Vec::new();
    for source in sources(&["src"]).iter().filter(|source| !source.is_test_module()) {
        for (number, line) in source.code_before_tests() {
            for call in [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "dbg!("] {
                if line.contains(call) {
                    offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    // The simulation is a test instrument: its alarms are panics.
    offences.retain(|offence| !offence.starts_with("src/driver/sim"));
    assert_none("faults are states or errors; an impossibility is an `expect` that says why", &offences);
}

#[test]
fn machines_know_no_driver_by_name() {
    let mut offences = Vec::new();
    for source in sources(&["src/tcp", "src/session", "src/upstream", "src/file", "src/buffer"]) {
        if source.path.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in source.code_before_tests() {
            for kernel in ["driver::uring", "driver::epoll", "driver::sim", "io_uring::", "std::net::Tcp"] {
                if line.contains(kernel) {
                    offences.push(format!("{}:{number}: {}", source.path.display(), line.trim()));
                }
            }
        }
    }
    assert_none("nothing above the contract knows which driver runs", &offences);
}

#[test]
fn each_dependency_is_accounted_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml");
    let account = fs::read_to_string(root.join("docs/dependencies.md")).expect("docs/dependencies.md");
    let mut section = "";
    let mut offences = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once('=')
            && !account.contains(&format!("`{}`", name.trim()))
        {
            offences.push(name.trim().to_owned());
        }
    }
    assert_none("docs/dependencies.md does not say in a line with `name` what they are for", &offences);
}

#[test]
fn the_readme_shows_every_command() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    let missing: Vec<String> = ["proxy", "echo", "reverse", "send", "connect", "probe"]
        .iter()
        .filter(|command| !readme.contains(&format!("xps {command}")))
        .map(|command| (*command).to_owned())
        .collect();
    assert_none("README.md does not show these commands of `xps`", &missing);
    assert!(readme.contains("cargo test"), "README.md does not say how to run the tests");
}
