//! `xps check`, and what `xps run` does with a file that is not well.

use crate::place::{Place, echo, files};
use crate::support::Backend;
use crate::support::Launch;
use crate::support::backends;
use crate::support::process::Finished;

/// Three mistakes, in lines 3, 5 and 8.
const BAD: &str = r#"{
  // What follows is wrong.
  "worker": 2,
  "servers": [{
    "listeners": [{ "port": 80800 }],
    "routes": [{
      "req_path": "/",
      "type": "file_server",
    }],
  }],
}"#;

const PLACES: [&str; 3] = ["xps_config.json:3:3: ", "xps_config.json:5:29: ", "xps_config.json:8:15: "];

#[track_caller]
fn check(place: &Place, words: &[&str]) -> Finished {
    Launch::new(Backend::Epoll, ["check"]).flags(words.iter().copied()).in_folder(&place.path("")).run(b"")
}

#[test]
fn a_good_file_is_well() {
    let place = Place::new(Backend::Epoll);
    place.page("files", "x");
    place.configure([files("127.0.0.1", "files"), echo("127.0.0.2")]);
    for words in [&[][..], &["xps_config.json"]] {
        let finished = check(&place, words);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        let said = String::from_utf8_lossy(&finished.output).into_owned();
        assert_eq!(said, "xps_config.json: well: 2 listeners, 1 routes\n");
        assert_eq!(finished.errors, "");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let place = Place::new(Backend::Epoll);
    place.write(BAD);
    let finished = check(&place, &[]);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
    assert!(finished.output.is_empty());
    for place in PLACES {
        assert!(finished.errors.contains(place), "{place} is missing:\n{}", finished.errors);
    }
    assert!(finished.errors.contains("workers"), "the nearest key is named:\n{}", finished.errors);
    assert!(finished.errors.contains("xps_config.json: 3 problems"), "{}", finished.errors);
}

#[test]
fn what_only_the_files_folder_makes_too_long_is_noticed() {
    let place = Place::new(Backend::Epoll);
    let name = format!("{}.sock", "a".repeat(90));
    place.write(&format!(r#"{{ "servers": [{{ "listeners": [{{ "unix": "{name}" }}] }}] }}"#));
    let finished = check(&place, &[]);
    assert_ne!(finished.status.code(), Some(0));
    assert!(finished.errors.contains(&name), "{}", finished.errors);
}

#[test]
fn what_a_file_names_need_not_be_there() {
    let place = Place::new(Backend::Epoll);
    let mut server = files("127.0.0.1", "missing");
    server["routes"][0]["error_pages"] = serde_json::json!({ "404": "missing.html" });
    server["access_log"] = serde_json::json!("missing/access.log");
    place.configure([server]);
    let finished = check(&place, &[]);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    assert!(!place.path("missing").exists());
}

#[test]
fn a_file_that_is_not_there_is_a_mistake_with_words() {
    let place = Place::new(Backend::Epoll);
    let finished = check(&place, &["nowhere.json"]);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
    assert!(finished.errors.contains("nowhere.json"), "{}", finished.errors);
}

backends! {
    fn a_bad_file_starts_nothing(backend) {
        let place = Place::new(backend);
        place.write(BAD);
        let finished = place.launch().run(b"");
        assert_eq!(finished.status.code(), Some(2), "{}", finished.errors);
        for place in PLACES {
            assert!(finished.errors.contains(place), "{place} is missing:\n{}", finished.errors);
        }
    }
}
