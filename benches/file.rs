//! What a request for a file costs besides the kernel's work: look-up, validators, conditions, ranges.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use xps::internals::driver::{FileInfo, FileKind, FolderEntry, Time};
use xps::internals::file::cache::{Cache, Limits, Lookup};
use xps::internals::file::compress::{Level, compress};
use xps::internals::file::listing::{Format, Listed, Listing, Options, Sort};
use xps::internals::http::Coding;
use xps::internals::http::conditional::{Conditions, evaluate};
use xps::internals::http::media_type::MediaType;
use xps::internals::http::range::select;
use xps::internals::http::validators::{FileVersion, Validators};

criterion_group!(benches, cache, validators, fields, listing, coding);
criterion_main!(benches);

const INFO: FileInfo = FileInfo {
    size: 612,
    modified_ns: 1_709_251_199_123_456_789,
    kind: FileKind::Regular,
    inode: 1_234_567,
    device: 2049,
};
const VERSION: FileVersion = FileVersion { size: INFO.size, modified_ns: INFO.modified_ns, inode: INFO.inode };
const NOW_S: u64 = 1_709_300_000;

fn path(index: u32) -> Vec<u8> {
    format!("assets/images/2024/picture-number-{index:05}.html").into_bytes()
}

fn cache(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache of open files");
    let limits = Limits {
        entries_max: 10_000,
        bytes_max: 1 << 30,
        valid_for: Duration::from_secs(1),
        idle_for: Duration::from_secs(60),
    };
    for (name, count) in [("one file", 1), ("10,000 files in turn", 10_000)] {
        let mut cache: Cache<Box<[u8]>, u64> = Cache::new(limits);
        let mut evicted = Vec::new();
        let paths: Vec<_> = (0..count).map(path).collect();
        for path in &paths {
            cache.insert(path[..].into(), 0, 1000, Time::ZERO, &mut evicted);
        }
        let mut next = paths.iter().cycle();
        group.bench_function(format!("hit, {name}"), |bencher| {
            bencher.iter(|| {
                let path = next.next().map_or(&[][..], |path| &path[..]);
                matches!(cache.get(black_box(path), Time::ZERO), Lookup::Fresh(_))
            });
        });
        let absent = path(count);
        group.bench_function(format!("miss, {name}"), |bencher| {
            bencher.iter(|| matches!(cache.get(black_box(&absent[..]), Time::ZERO), Lookup::Absent));
        });
    }
}

fn validators(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validators");
    group.bench_function("tag and date", |bencher| bencher.iter(|| Validators::new(black_box(VERSION), None, NOW_S)));
    let validators = Validators::new(VERSION, None, NOW_S);
    group.bench_function("Last-Modified", |bencher| bencher.iter(|| black_box(&validators).last_modified()));
    group.bench_function("media type", |bencher| {
        let name = path(1);
        bencher.iter(|| MediaType::of_name(black_box(&name)));
    });
}

fn fields(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fields");
    let validators = Validators::new(VERSION, None, NOW_S);
    let (tag, date) = (*validators.tag(), validators.last_modified());
    let several = [b"\"one\", W/\"two\", ", tag.as_bytes()].concat();
    let none = Conditions::default();
    let cases = [
        ("no condition", none),
        ("If-None-Match", Conditions { if_none_match: Some(tag.as_bytes()), ..none }),
        ("If-None-Match of three tags", Conditions { if_none_match: Some(&several), ..none }),
        ("If-Modified-Since", Conditions { if_modified_since: Some(date.as_bytes()), ..none }),
    ];
    for (name, conditions) in cases {
        group.bench_function(name, |bencher| bencher.iter(|| evaluate(black_box(&conditions), &validators, true)));
    }
    for (name, value) in [("Range, one", &b"bytes=100-199"[..]), ("Range, four", b"bytes=0-9,20-29,40-49,-9")] {
        group.bench_function(name, |bencher| bencher.iter(|| select(Some(black_box(value)), 612)));
    }
}

fn listing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("listing of 1,000 entries");
    let entries: Vec<_> = (0..1000)
        .map(|index| FolderEntry {
            name: format!("picture number {}.jpeg", index * 7919 % 1000).into_bytes(),
            info: Some(FileInfo { size: index * 1000, ..INFO }),
        })
        .collect();
    for (name, format) in [("HTML", Format::Html), ("JSON", Format::Json)] {
        group.bench_function(name, |bencher| {
            let render = |entries| {
                let listed = Rc::new(Listed::new(entries));
                Listing::new(b"/a/", listed, Sort::default(), Options::default()).render(format)
            };
            bencher.iter_batched(|| entries.clone(), render, BatchSize::SmallInput);
        });
    }
}

fn coding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coding of 64 KiB");
    // Words in an order that does not repeat soon.
    let words = ["stream", "buffer ", "<p>", "completion, ", "ring", "\n", "accept ", "</p>", "42", "the "];
    let mut state = 1_u32;
    let text: String = (0..16_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            words[(state >> 24) as usize % words.len()]
        })
        .collect();
    let text = &text.as_bytes()[..64 << 10];
    group.throughput(Throughput::Bytes(text.len() as u64)).sample_size(20);
    for coding in Coding::ALL {
        group.bench_function(coding.name(), |bencher| {
            bencher.iter(|| compress(coding, Level::default_of(coding), text))
        });
    }
}
