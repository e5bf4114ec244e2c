//! Files: the cache and compression.

use super::super::Metrics;
use super::super::text::{Kind, Text};

pub(super) fn write(metrics: &Metrics, text: &mut Text) {
    let help = "Look-ups in the file cache: hits found a valid result from before the request.";
    let mut lookups = text.family("xps_file_cache_lookups_total", Kind::Counter, help);
    lookups.sample(&[("result", "hit")], metrics.sum(|cells| &cells.cache_hits));
    lookups.sample(&[("result", "miss")], metrics.sum(|cells| &cells.cache_misses));
    let compressions = metrics.sum(|cells| &cells.compressions);
    text.family("xps_file_compressions_total", Kind::Counter, "Files that were compressed.").value(compressions);
}
