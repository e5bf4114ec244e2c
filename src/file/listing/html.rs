//! A listing as an HTML page: a table, links and a style sheet, no script.

use std::fmt;
use std::io::Write;

use super::escape::html_escape;
use super::order::{Column, Direction, Sort};
use super::{Entry, Folder, Style};
use crate::driver::FileKind;
use crate::http::inline_text::inline_text;

/// Follows the browser's choice of dark or light colours. On a narrow screen the time of day is
/// hidden and long names wrap.
const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1c1e21;--dim:#63676e;--bg:#fff;--line:#e3e5e8;--hover:#f3f6fa;--link:#0b57b8}\
@media(prefers-color-scheme:dark){:root{--fg:#e4e6ea;--dim:#9aa0a8;--bg:#15171a;--line:#2b2f34;--hover:#1f2328;--link:#82b6ff}}\
body{margin:0 auto;padding:1rem;max-width:64rem;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif}\
h1{margin:0 0 1rem;font-size:1.25rem;font-weight:600;overflow-wrap:anywhere}\
a{color:var(--link);text-decoration:none}a:hover,a:focus-visible{text-decoration:underline}\
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.4rem .5rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}\
tbody tr:hover{background:var(--hover)}\
.n{width:100%;overflow-wrap:anywhere}.d .n{font-weight:600}\
.s,.m{white-space:nowrap;color:var(--dim)}.s{text-align:right}\
footer{margin-top:1rem;color:var(--dim);font-size:.875rem}\
@media(max-width:36em){body{padding:.5rem}th,td{padding:.5rem .25rem}.t{display:none}}";

pub(super) fn write_head(folder: &Folder, sort: Sort, out: &mut Vec<u8>) {
    append(out, format_args!("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"));
    append(out, format_args!("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"));
    // An empty icon keeps browsers from requesting /favicon.ico.
    append(out, format_args!("<link rel=\"icon\" href=\"data:,\">\n<title>Index of /"));
    for name in &folder.names {
        html_escape(name, out);
        out.push(b'/');
    }
    append(out, format_args!("</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"));
    write_breadcrumb(folder, out);
    append(out, format_args!("<table>\n<thead>\n<tr>"));
    for (column, class, title) in [
        (Column::Name, "n", "Name"),
        (Column::Size, "s", "Size"),
        (Column::Modified, "m", "Modified<span class=\"t\"> (UTC)</span>"),
    ] {
        match folder.style {
            Style::Standard => write_title(sort, column, class, title, out),
            // All links in the table lead to entries of the folder.
            Style::Expserver => append(out, format_args!("<th scope=\"col\" class=\"{class}\">{title}</th>")),
        }
    }
    append(out, format_args!("</tr>\n</thead>\n<tbody>\n"));
    write_parent(folder, out);
}

pub(super) fn write_row(folder: &Folder, entry: Entry<'_>, out: &mut Vec<u8>) {
    let is_folder = entry.info.kind == FileKind::Directory;
    out.extend_from_slice(if is_folder { b"<tr class=\"d\">" } else { b"<tr>" });
    out.extend_from_slice(b"<td class=\"n\">");
    let is_linked = entry.info.kind != FileKind::Special;
    if is_linked {
        out.extend_from_slice(b"<a href=\"");
        folder.write_url_of(entry, out);
        out.extend_from_slice(b"\">");
    }
    // A right-to-left name must not reverse the text beside it.
    out.extend_from_slice(b"<bdi>");
    html_escape(entry.name, out);
    out.extend_from_slice(b"</bdi>");
    if is_folder {
        out.push(b'/');
    }
    if is_linked {
        out.extend_from_slice(b"</a>");
    }
    match entry.info.kind {
        FileKind::Regular => {
            let (exact, short) = (grouped(entry.info.size), rounded(entry.info.size));
            append(out, format_args!("</td><td class=\"s\" title=\"{exact} bytes\">{short}</td>"));
        }
        FileKind::Directory | FileKind::Special => append(out, format_args!("</td><td class=\"s\"></td>")),
    }
    // The date is the first 10 characters, the time of day the 8 from the 11th on.
    let modified = inline_text::<20>(format_args!("{}", entry.modified()));
    let (date, time) = (&modified.as_str()[..10], &modified.as_str()[11..19]);
    append(out, format_args!("<td class=\"m\"><time datetime=\"{modified}\">{date}<span class=\"t\"> {time}</span>"));
    append(out, format_args!("</time></td></tr>\n"));
}

pub(super) fn write_tail<'a>(entries: impl Iterator<Item = Entry<'a>>, out: &mut Vec<u8>) {
    let (mut folders, mut files, mut bytes) = (0_usize, 0_usize, 0_u64);
    for Entry { info, .. } in entries {
        match info.kind {
            FileKind::Directory => folders += 1,
            FileKind::Regular => (files, bytes) = (files + 1, bytes.saturating_add(info.size)),
            FileKind::Special => files += 1,
        }
    }
    let plural = |count| if count == 1 { "" } else { "s" };
    append(out, format_args!("</tbody>\n</table>\n</main>\n<footer>{} folder{}, ", folders, plural(folders)));
    append(out, format_args!("{} file{}, <span title=\"{} bytes\">", files, plural(files), grouped(bytes)));
    append(out, format_args!("{}</span></footer>\n</body>\n</html>\n", rounded(bytes)));
}

/// The path, with a link to each parent folder.
fn write_breadcrumb(folder: &Folder, out: &mut Vec<u8>) {
    append(out, format_args!("<h1>Index of <a href=\"/\">/</a>"));
    let mut url = Vec::new();
    for (index, name) in folder.names.iter().enumerate() {
        url.push(b'/');
        super::escape::percent_encode(name, &mut url);
        if index + 1 < folder.names.len() {
            out.extend_from_slice(b"<a href=\"");
            out.extend_from_slice(&url);
            folder.end_link(out);
            out.extend_from_slice(b"\"><bdi>");
            html_escape(name, out);
            out.extend_from_slice(b"</bdi></a>/");
        } else {
            out.extend_from_slice(b"<bdi>");
            html_escape(name, out);
            out.extend_from_slice(b"</bdi>/");
        }
    }
    out.extend_from_slice(b"</h1>\n");
}

/// A column's title, with a link that sorts by it.
fn write_title(sort: Sort, column: Column, class: &str, title: &str, out: &mut Vec<u8>) {
    let (state, arrow) = match sort.direction {
        _ if sort.column != column => ("", ""),
        Direction::Ascending => (" aria-sort=\"ascending\"", " \u{2191}"),
        Direction::Descending => (" aria-sort=\"descending\"", " \u{2193}"),
    };
    let next = sort.after_click(column);
    let (by, order) = (next.column.as_str(), next.direction.as_str());
    append(out, format_args!("<th scope=\"col\" class=\"{class}\"{state}>"));
    append(out, format_args!("<a href=\"?sort={by}&amp;order={order}\">{title}</a>{arrow}</th>"));
}

/// The row with the link to the parent folder; the root has none.
fn write_parent(folder: &Folder, out: &mut Vec<u8>) {
    let Some((_, above)) = folder.names.split_last() else { return };
    out.extend_from_slice(b"<tr class=\"d\"><td class=\"n\"><a href=\"/");
    for (index, name) in above.iter().enumerate() {
        super::escape::percent_encode(name, out);
        if index + 1 < above.len() {
            out.push(b'/');
        } else {
            folder.end_link(out);
        }
    }
    out.extend_from_slice(b"\" rel=\"up\">../</a></td><td class=\"s\"></td><td class=\"m\"></td></tr>\n");
}

/// `1,234,567`
fn grouped(number: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let digits = number.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    })
}

/// `999 B`, `1.2 KiB`, `34 MiB`: two digits or more, rounded to nearest.
fn rounded(bytes: u64) -> impl fmt::Display {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    fmt::from_fn(move |f| {
        let bytes = u128::from(bytes);
        if bytes < 1024 {
            return write!(f, "{bytes} B");
        }
        let in_units = |power: usize, scale: u128| (bytes * scale + (1_u128 << (10 * power - 1))) >> (10 * power);
        // The smallest unit in which the rounded number is below 1024.
        let power = (1..UNITS.len() - 1).find(|power| in_units(*power, 1) < 1024).unwrap_or(UNITS.len() - 1);
        match in_units(power, 10) {
            tenths @ ..100 => write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[power]),
            _ => write!(f, "{} {}", in_units(power, 1), UNITS[power]),
        }
    })
}

/// Writing to memory cannot fail.
fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The snapshot of the page omits the style, which may change except for these properties.
    #[test]
    fn the_page_follows_the_reader_s_colours_and_fits_narrow_screens() {
        let mut page = Vec::new();
        write_head(&Folder::new(b"/", Style::Standard), Sort::default(), &mut page);
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"), "{page}");
        let (_, narrow) = STYLE.split_once("@media(max-width:").unwrap();
        assert!(narrow.contains(".t{display:none}"), "the time of day is hidden: {narrow}");
        assert!(STYLE.contains("color-scheme:light dark"));
        let (_, dark) = STYLE.split_once("@media(prefers-color-scheme:dark){:root{").unwrap();
        let (dark, _) = dark.split_once("}}").unwrap();
        let (_, light) = STYLE.split_once(":root{").unwrap();
        let (light, _) = light.split_once('}').unwrap();
        let names = |colours: &str| -> Vec<String> {
            let names = colours.split(';').filter_map(|colour| colour.split_once(':')).map(|(name, _)| name.to_owned());
            names.filter(|name| name.starts_with("--")).collect()
        };
        assert!(!names(light).is_empty());
        assert_eq!(names(dark), names(light), "each colour has its dark counterpart");
    }

    #[test]
    fn sizes_are_rounded_to_what_one_can_grasp() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1234, "1.2 KiB"),
            (10_188, "9.9 KiB"),
            (10_189, "10 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (5_368_709_120, "5.0 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(rounded(bytes).to_string(), expected);
        }
    }

    #[test]
    fn exact_sizes_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")];
        for (bytes, expected) in cases {
            assert_eq!(grouped(bytes).to_string(), expected);
        }
    }
}
