//! `xps schema`: what editors hold a configuration file against. And the schema of reports of `xps bench`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::environment::find_program;
use support::{Backend, Launch, skip};
use xps::internals::load::report::{export, sample};

fn schema() -> Value {
    let finished = Launch::new(Backend::Epoll, ["schema"]).run(b"");
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    serde_json::from_slice(&finished.output).expect("JSON")
}

/// The names of all properties, wherever they stand.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                found.extend(properties.keys().cloned());
            }
            members.values().for_each(|member| keys(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| keys(element, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Without comments and trailing commas.
fn plain(jsonc: &str) -> String {
    let mut out = String::new();
    let mut rest = jsonc;
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '"' => {
                let mut is_escaped = false;
                let end = rest.char_indices().skip(1).find(|(_, character)| {
                    let is_end = *character == '"' && !is_escaped;
                    is_escaped = *character == '\\' && !is_escaped;
                    is_end
                });
                let length = end.expect("the text ends").0 + 1;
                out.push_str(&rest[..length]);
                length
            }
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            ']' | '}' => {
                let length = out.trim_end().trim_end_matches(',').len();
                out.truncate(length);
                out.push(character);
                1
            }
            character => {
                out.push(character);
                character.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

#[test]
fn it_has_every_key_of_the_reference() {
    let mut found = BTreeSet::new();
    keys(&schema(), &mut found);
    let reference = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md"));
    let reference = reference.expect("the reference");
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key));
    let rows: Vec<&str> = rows.collect();
    assert!(rows.len() > 100, "{rows:?}");
    for key in rows {
        assert!(found.contains(key), "`{key}` is not in the schema");
    }
}

#[test]
fn every_field_of_a_bench_report_is_explained() {
    let schema = serde_json::from_str(&export::schema()).expect("JSON");
    let mut found = BTreeSet::new();
    keys(&schema, &mut found);
    let explained = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/bench.md"));
    let explained = explained.expect("the page");
    assert!(found.len() > 60, "{found:?}");
    for field in found {
        assert!(explained.contains(&format!("`{field}`")), "docs/bench.md says nothing of `{field}`");
    }
}

/// `python3`, if it has an implementation of JSON Schema.
fn find_validator(test: &str) -> Option<PathBuf> {
    let Some(python) = find_program("python3") else {
        skip(test, "there is no python3");
        return None;
    };
    let has_library = Command::new(&python).args(["-c", "import jsonschema"]).output();
    if !has_library.is_ok_and(|output| output.status.success()) {
        skip(test, "python3 has no jsonschema");
        return None;
    }
    Some(python)
}

/// The number of problems that another implementation of JSON Schema than our own finds in each of these
/// files of a folder.
fn problems(python: &Path, folder: &Path, schema: &str, names: &[String]) -> BTreeMap<String, usize> {
    const SCRIPT: &str = "\
import json, sys, jsonschema
schema = json.load(open(sys.argv[1]))
kind = jsonschema.validators.validator_for(schema)
kind.check_schema(schema)
for path in sys.argv[2:]:
    print(path, sum(1 for _ in kind(schema).iter_errors(json.load(open(path)))))
";
    std::fs::write(folder.join("schema"), schema).expect("a temporary file");
    let output = Command::new(python)
        .args(["-c", SCRIPT, "schema"])
        .args(names)
        .current_dir(folder)
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let count =
        |line: &str| line.rsplit_once(' ').map(|(name, count)| (name.to_owned(), count.parse().expect("a count")));
    let found: BTreeMap<String, usize> = said.lines().filter_map(count).collect();
    assert_eq!(found.len(), names.len(), "{said}");
    found
}

#[test]
fn others_find_reports_well_and_bad_ones_bad() {
    let Some(python) = find_validator("others_find_reports_well_and_bad_ones_bad") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut wrong: Value = serde_json::from_str(&export::json(&sample::failed())).expect("JSON");
    wrong["requests"] = json!("many");
    let texts = [
        ("open", export::json(&sample::open()), 0),
        ("closed", export::json(&sample::closed()), 0),
        ("failed", export::json(&sample::failed()), 0),
        ("wrong", wrong.to_string(), 1),
    ];
    let names = texts.each_ref().map(|(name, text, _)| {
        std::fs::write(folder.path().join(name), text).expect("a temporary file");
        (*name).to_owned()
    });
    let found = problems(&python, folder.path(), &export::schema(), &names);
    for (name, _, count) in texts {
        assert_eq!(found[name], count, "{name}");
    }
}

#[test]
fn others_find_our_files_well_and_bad_ones_bad() {
    const TEST: &str = "others_find_our_files_well_and_bad_ones_bad";
    let Some(python) = find_validator(TEST) else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        std::fs::write(folder.path().join(name), value.to_string()).expect("a temporary file");
        name.to_owned()
    };
    let mut good = vec![write("example.json", &plain(xps::internals::config::file::EXAMPLE))];
    let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stages");
    for entry in std::fs::read_dir(stages).expect("the stages") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            good.push(write(&name, &plain(&std::fs::read_to_string(&path).expect("a stage"))));
        }
    }
    assert!(good.len() > 5);
    let around = |route: Value| json!({ "servers": [{ "listeners": [{ "port": 1 }], "routes": [route] }] }).to_string();
    let bad = [
        write("no-servers.json", "{}"),
        write("unknown-key.json", &around(json!({ "req_path": "/", "type": "metrics", "rotues": 1 }))),
        write("unknown-type.json", &around(json!({ "req_path": "/", "type": "file_server" }))),
        write("wrong-kind.json", &around(json!({ "req_path": 1, "type": "metrics" }))),
        write("out-of-bounds.json", r#"{ "servers": [{ "listeners": [{ "port": 80800 }] }] }"#),
        write("in-a-limit.json", r#"{ "limits": { "backlog": 0 }, "servers": [{ "listeners": [{ "port": 1 }] }] }"#),
    ];
    let all: Vec<String> = good.iter().chain(&bad).cloned().collect();
    let found = problems(&python, folder.path(), &schema().to_string(), &all);
    for (names, is_good) in [(&good[..], true), (&bad[..], false)] {
        for name in names {
            assert_eq!(found[name] == 0, is_good, "{name}: {} problems", found[name]);
        }
    }
}

const BENCH_REPORT: &str = "docs/bench-report.schema.json";

/// `XPS_UPDATE=1 cargo test --test schema` writes it again.
#[test]
fn the_schema_of_bench_reports_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(BENCH_REPORT);
    let expected = export::schema();
    if std::env::var_os("XPS_UPDATE").is_some() {
        std::fs::write(&path, &expected).expect("the schema is written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{BENCH_REPORT} is out of date: run `XPS_UPDATE=1 cargo test --test schema`");
}
