//! Finds the known name that is most similar to an unknown one.

use strsim::osa_distance;

/// The name most similar to `written`, if one is similar enough.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    /// Longer names are not compared, since the distance takes quadratic time.
    const LENGTH_MAX: usize = 64;
    if written.len() > LENGTH_MAX {
        return None;
    }
    let written = plain(written);
    // One error per three characters is tolerated, but at least one. Two neighbours that are swapped
    // are one error.
    let tolerated = (written.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (osa_distance(&written, &plain(name)), name))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Normalises `dirPath`, `dir-path` and `dir_path` to the same text.
fn plain(name: &str) -> String {
    name.chars().filter(|character| !matches!(character, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["dir_path", "req_path", "gzip_enable", "gzip_level", "type"];
        for (written, meant) in [
            ("gzip_enabled", Some("gzip_enable")),
            ("gzip_levle", Some("gzip_level")),
            ("dirPath", Some("dir_path")),
            ("req-path", Some("req_path")),
            ("tpye", Some("type")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
        assert_eq!(nearest(&"type".repeat(1000), names), None);
    }
}
