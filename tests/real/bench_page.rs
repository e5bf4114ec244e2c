//! The page that a report of `xps bench` becomes, in a browser.

use std::fmt::Write as _;

use xps::internals::load::report::html::{Named, page};
use xps::internals::load::report::sample;

use crate::browser;

/// What the page around the frames finds in each: whether it is wider than its frame, its pictures that have
/// no size, and what it loaded.
const INSPECT: &str = "\
addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const plots = [...page.querySelectorAll('svg[role=img]')];
    const hidden = plots.filter(plot => plot.getBoundingClientRect().width < 200).length;
    const lines = [...page.querySelectorAll('figure > svg path.line')].filter(line => line.getTotalLength() > 100).length;
    const loaded = frame.contentWindow.performance.getEntriesByType('resource').length;
    return `${frame.contentWindow.innerWidth}: excess ${root.scrollWidth - root.clientWidth}, plots ${plots.length}, \
hidden ${hidden}, lines ${lines}, loaded ${loaded}`;
  });
  document.body.replaceChildren(found.join('; '));
});";

fn reports(count: usize) -> String {
    let (open, closed) = (sample::open(), sample::closed());
    let all = [Named { name: "open.json", report: &open }, Named { name: "closed.json", report: &closed }];
    page(&all[..count])
}

#[test]
fn a_browser_shows_a_report_and_a_comparison() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        format!("file://{}", path.display())
    };
    // Frames have the width of a phone, which windows of a browser need not have.
    let mut around = String::from("<!DOCTYPE html><body>");
    for (count, width) in [(1, 390), (2, 390), (1, 1280)] {
        let document = reports(count).replace('&', "&amp;").replace('"', "&quot;");
        write!(around, "<iframe width={width} height=900 frameborder=0 srcdoc=\"{document}\"></iframe>").expect("text");
    }
    write!(around, "<script>{INSPECT}</script>").expect("text");
    let url = write("around.html", &around);
    let Some((document, console)) = browser::document_and_console(module_path!(), &url, &[]) else { return };
    assert_eq!(console, [""; 0], "the console is empty");
    for found in [
        "390: excess 0, plots 3, hidden 0, lines 5, loaded 0",
        "390: excess 0, plots 9, hidden 0, lines 14, loaded 0",
        "1280: excess 0, plots 3, hidden 0, lines 5, loaded 0",
    ] {
        assert!(document.contains(found), "{found}\n{}", document.split("<body>").last().unwrap_or_default());
    }

    // For the documents: XPS_SCREENSHOTS=docs/images cargo test --test real bench_page::
    let Ok(screenshots) = std::env::var("XPS_SCREENSHOTS") else { return };
    let one = write("one.html", &reports(1));
    for (name, size, scheme) in
        [("bench", "1000,1150", "1"), ("bench-dark", "1000,1150", "0"), ("bench-phone", "390,1150", "1")]
    {
        let options = [
            "--hide-scrollbars".to_owned(),
            format!("--window-size={size}"),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("--screenshot={screenshots}/{name}.png"),
        ];
        browser::document(module_path!(), &one, &options.each_ref().map(String::as_str));
    }
}
