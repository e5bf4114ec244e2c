//! Listings: two snapshots, and properties of any listing.

use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::driver::FolderEntry;

fn entry_of(name: Vec<u8>, kind: FileKind, size: u64, modified_ns: i64) -> FolderEntry {
    FolderEntry { name, info: Some(FileInfo { size, modified_ns, kind, inode: 0, device: 0 }) }
}

fn entry(name: impl AsRef<[u8]>, kind: FileKind, size: u64) -> FolderEntry {
    entry_of(name.as_ref().to_vec(), kind, size, 1_709_251_199_000_000_000)
}

fn listing(path: &[u8], entries: Vec<FolderEntry>, sort: Sort, options: Options) -> Listing {
    Listing::new(path, Rc::new(Listed::new(entries)), sort, options)
}

fn file(name: impl AsRef<[u8]>, size: u64) -> FolderEntry {
    entry(name, FileKind::Regular, size)
}

fn render(path: &[u8], entries: Vec<FolderEntry>, query: &[u8], format: Format) -> String {
    let listing = listing(path, entries, Sort::from_query(query), Options::default());
    String::from_utf8(listing.render(format)).unwrap()
}

fn names(entries: Vec<FolderEntry>, query: &[u8], options: Options) -> Vec<String> {
    let listing = listing(b"/", entries, Sort::from_query(query), options);
    listing.entries().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
}

/// The page without its style, so that a change of colour does not change the snapshot.
fn without_style(page: &str) -> String {
    let (before, rest) = page.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    format!("{before}<style></style>{after}")
}

#[test]
fn a_small_page_is_as_its_snapshot() {
    let entries = vec![
        file("read me.txt", 1234),
        file("<b>&\"'.html", 1_048_576),
        entry("sub", FileKind::Directory, 4096),
        entry("fifo", FileKind::Special, 0),
        file(b"\xff\n", 0),
        file(".hidden", 1),
    ];
    let page = render(b"/a b/c/", entries, b"sort=size&order=desc", Format::Html);
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/file/listing/snapshot.html");
    if std::env::var_os("XPS_UPDATE").is_some() {
        std::fs::write(&snapshot, without_style(&page)).unwrap();
    }
    let expected = std::fs::read_to_string(&snapshot).unwrap();
    assert_eq!(without_style(&page), expected, "if that is meant, run `XPS_UPDATE=1 cargo test --lib listing`");
}

#[test]
fn a_small_json_listing_is_as_its_snapshot() {
    let entries = vec![file("a\"b\\c.txt", 3), entry("sub", FileKind::Directory, 4096), file(b"\xff\n", 0)];
    assert_eq!(
        render(b"/a b/", entries, b"", Format::Json),
        concat!(
            "{\"path\":\"/a%20b/\",\"entries\":[\n",
            "{\"name\":\"sub\",\"type\":\"folder\",\"href\":\"/a%20b/sub/\",\"modified\":\"2024-02-29T23:59:59Z\"},\n",
            "{\"name\":\"a\\\"b\\\\c.txt\",\"type\":\"file\",\"href\":\"/a%20b/a%22b%5Cc.txt\",\"size\":3,",
            "\"modified\":\"2024-02-29T23:59:59Z\"},\n",
            "{\"name\":\"\u{fffd}\\u000a\",\"type\":\"file\",\"href\":\"/a%20b/%FF%0A\",\"size\":0,",
            "\"modified\":\"2024-02-29T23:59:59Z\"}\n",
            "]}\n"
        )
    );
}

#[test]
fn an_empty_folder_has_an_empty_table() {
    let page = render(b"/", vec![], b"", Format::Html);
    assert!(page.contains("<tbody>\n</tbody>"), "{page}");
    assert!(page.contains("0 folders, 0 files"), "{page}");
    assert_eq!(render(b"/", vec![], b"", Format::Json), "{\"path\":\"/\",\"entries\":[\n\n]}\n");
}

#[test]
fn folders_come_first_and_names_ignore_case() {
    let entries = || {
        vec![
            file("b", 2),
            file("A", 3),
            file("a", 1),
            entry("z", FileKind::Directory, 0),
            entry("y", FileKind::Directory, 9),
        ]
    };
    let sorted = |query: &[u8]| names(entries(), query, Options::default());
    assert_eq!(sorted(b""), ["y", "z", "A", "a", "b"]);
    assert_eq!(sorted(b"sort=name&order=desc"), ["z", "y", "b", "a", "A"]);
    assert_eq!(sorted(b"sort=size"), ["y", "z", "a", "b", "A"]);
    assert_eq!(sorted(b"order=desc&sort=size"), ["y", "z", "A", "b", "a"]);
    assert_eq!(sorted(b"sort=modified&order=desc"), ["y", "z", "A", "a", "b"]);
    assert_eq!(sorted(b"sort=colour&order=up&&x"), sorted(b""));
}

#[test]
fn dot_files_are_shown_only_when_asked_for() {
    let entries = || vec![file(".git", 1), file("a", 1), file("..b", 1)];
    assert_eq!(names(entries(), b"", Options::default()), ["a"]);
    assert_eq!(names(entries(), b"", Options { shows_dot_files: true, ..Options::default() }), ["..b", ".git", "a"]);
}

#[test]
fn what_leads_nowhere_is_not_shown() {
    let nowhere = FolderEntry { name: b"a".to_vec(), info: None };
    let entries = vec![nowhere.clone(), file("b", 1), nowhere];
    assert_eq!(names(entries, b"", Options::default()), ["b"]);
}

/// Otherwise each client that reads slowly would hold the whole folder.
#[test]
fn two_who_are_sent_a_folder_share_its_entries_and_their_order() {
    let listed = Rc::new(Listed::new(vec![file("b", 1), file("a", 2)]));
    let sort = Sort::from_query(b"sort=size");
    let mut streams = [Format::Html, Format::Json]
        .map(|format| Listing::new(b"/", Rc::clone(&listed), sort, Options::default()).stream(format));
    for stream in &mut streams {
        assert!(stream.next().is_some_and(|piece| !piece.is_empty()));
        assert!(Rc::ptr_eq(&stream.listing.listed, &listed));
    }
    assert!(listed.is_sorted(sort) && !listed.is_sorted(Sort::default()));
    assert_eq!(std::sync::Arc::strong_count(listed.entries()), 1);
}

#[test]
fn an_order_made_elsewhere_is_the_same() {
    let entries = || vec![file("c", 1), entry("z", FileKind::Directory, 0), file("a", 2), file("b", 0)];
    for query in [&b""[..], b"order=desc", b"sort=size", b"sort=size&order=desc", b"sort=modified"] {
        let (sort, here, elsewhere) = (Sort::from_query(query), Listed::new(entries()), Listed::new(entries()));
        elsewhere.set_order(sort, sort.order(elsewhere.entries()));
        for index in 0..4 {
            assert_eq!(here.entry(sort, index).unwrap().name, elsewhere.entry(sort, index).unwrap().name);
        }
    }
}

#[test]
fn no_link_leads_to_another_host() {
    for path in [&b"//host/"[..], b"///host//", b"host", b"/host"] {
        let page = render(path, vec![file("x", 1)], b"", Format::Html);
        assert!(page.contains("href=\"/host/x\"") && !page.contains("href=\"//"), "{page}");
    }
}

#[test]
fn a_hundred_thousand_entries_come_in_pieces_and_in_linear_time() {
    const COUNT: usize = 100_000;
    let entries: Vec<_> = (0..COUNT).map(|index| file(format!("file number {index}.txt"), index as u64)).collect();
    let start = Instant::now();
    let stream = listing(b"/many/", entries, Sort::default(), Options::default()).stream(Format::Html);
    let mut total = 0;
    let mut rows = 0;
    for piece in stream {
        assert!(piece.len() < PIECE_BYTES + 4096);
        total += piece.len();
        rows += piece.windows(4).filter(|window| window == b"<tr>").count();
    }
    assert!(rows >= COUNT && total > COUNT * 100, "{rows} rows in {total} bytes");
    // About 100 times what an optimised build needs; a quadratic algorithm would need hours.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

/// What a browser decodes from text or an attribute's value.
fn html_unescape(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            decoded.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
        } else {
            decoded.push(byte);
        }
    }
    decoded
}

/// Any file name, often with characters that are special in HTML and URLs.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        proptest::sample::select(&b"<>&\"'%#?;=\\ \n\r\t.:+"[..]),
        any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte }),
    ];
    prop_oneof![proptest::collection::vec(byte, 1..12), "[^/\0]{1,8}".prop_map(String::into_bytes)]
}

fn any_entries() -> impl Strategy<Value = Vec<FolderEntry>> {
    let kind = proptest::sample::select(&[FileKind::Regular, FileKind::Directory, FileKind::Special][..]);
    let entry = (any_name(), kind, any::<u64>(), any::<i64>())
        .prop_map(|(name, kind, size, modified_ns)| entry_of(name, kind, size, modified_ns));
    proptest::collection::vec(entry, 0..12)
}

fn any_query() -> impl Strategy<Value = Vec<u8>> {
    "(sort=(name|size|modified))?(&order=(asc|desc))?".prop_map(String::into_bytes)
}

proptest! {
    #[test]
    fn every_name_can_be_read_back_from_its_row(name in any_name(), folder in any_name()) {
        let path = [&b"/"[..], &folder, b"/"].concat();
        let options = Options { shows_dot_files: true, ..Options::default() };
        let page = listing(&path, vec![file(&name, 1)], Sort::default(), options).render(Format::Html);
        let page = String::from_utf8(page).unwrap();
        let row = page.lines().find(|line| line.starts_with("<tr><td")).unwrap();
        let href = row.split('"').nth(3).unwrap();
        prop_assert_eq!(percent_decode(href), [&path[..], &name].concat());
        let shown = row.split_once("<bdi>").unwrap().1.split_once("</bdi>").unwrap().0;
        prop_assert!(!shown.contains(['<', '>', '"', '\'']) && !shown.chars().any(|c| c.is_ascii_control()));
        prop_assert_eq!(html_unescape(shown), escape::visible(&name));
    }

    #[test]
    fn names_change_nothing_in_the_structure_of_a_page(entries in any_entries(), query in any_query(), folder in any_name()) {
        let page = |rename: bool| {
            let mut entries = entries.clone();
            // The order of rows may follow the names, so tags are counted, not compared in order.
            if rename {
                for entry in &mut entries {
                    entry.name = b"x".to_vec();
                }
            }
            let path = [&b"/"[..], if rename { b"x" } else { &folder[..] }, b"/"].concat();
            let listing = listing(&path, entries, Sort::from_query(&query), Options { shows_dot_files: true, ..Options::default() });
            String::from_utf8(listing.render(Format::Html)).unwrap()
        };
        let marks = |page: &str| ['<', '>', '"', '\n'].map(|mark| page.matches(mark).count());
        prop_assert_eq!(marks(&page(false)), marks(&page(true)));
    }

    #[test]
    fn json_is_valid_and_names_every_entry(entries in any_entries(), query in any_query()) {
        let options = Options { shows_dot_files: true, ..Options::default() };
        let listing = listing(b"/x/", entries, Sort::from_query(&query), options);
        let expected: Vec<_> = listing.entries().collect();
        let value: serde_json::Value = serde_json::from_slice(&listing.clone().render(Format::Json)).unwrap();
        let rows = value["entries"].as_array().unwrap();
        prop_assert_eq!(rows.len(), expected.len());
        for (row, entry) in rows.iter().zip(&expected) {
            prop_assert_eq!(row["name"].as_str().unwrap(), String::from_utf8_lossy(entry.name));
            let size = (entry.info.kind == FileKind::Regular).then_some(entry.info.size);
            prop_assert_eq!(row["size"].as_u64(), size);
            if let Some(href) = row["href"].as_str() {
                let name = percent_decode(href.strip_prefix("/x/").unwrap().trim_end_matches('/'));
                prop_assert_eq!(&name, entry.name);
            }
        }
    }

    #[test]
    fn pieces_of_any_size_make_the_same_page(entries in any_entries(), size in 1..3000_usize, is_json in any::<bool>()) {
        let format = if is_json { Format::Json } else { Format::Html };
        let listing = listing(b"/", entries, Sort::default(), Options::default());
        let whole = listing.clone().render(format);
        let mut stream = listing.stream(format);
        let mut pieces = Vec::new();
        loop {
            let mut piece = Vec::new();
            let is_more = stream.write(size, &mut piece);
            prop_assert!(!is_more || piece.len() >= size);
            pieces.extend(piece);
            if !is_more {
                break;
            }
        }
        prop_assert_eq!(pieces, whole);
    }
}

#[test]
fn in_the_style_of_expserver_links_to_folders_have_no_slash_at_the_end() {
    let entries = vec![file("a.txt", 1), entry("sub", FileKind::Directory, 4096)];
    let options = Options { style: Style::Expserver, ..Options::default() };
    let links = |path: &[u8]| -> Vec<String> {
        let page = listing(path, entries.clone(), Sort::default(), options).render(Format::Html);
        let page = String::from_utf8(page).unwrap();
        let (_, body) = page.split_once("<body>").unwrap();
        body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    };
    assert_eq!(links(b"/"), ["/", "/sub", "/a.txt"]);
    assert_eq!(links(b"/x/"), ["/", "/", "/x/sub", "/x/a.txt"]);
    assert_eq!(links(b"/x/y z/"), ["/", "/x", "/x", "/x/y%20z/sub", "/x/y%20z/a.txt"]);
    assert_eq!(
        (Format::Html.content_type(Style::Expserver), Format::Json.content_type(Style::Expserver)),
        ("text/html", "application/json")
    );
}
