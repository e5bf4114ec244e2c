//! The built-in welcome pages, served if no folder is given: they list the listeners of the demo.

/// The path and text of each page.
pub const WELCOME_PAGES: &[(&str, &str)] =
    &[("index.html", include_str!("welcome/index.html")), ("style.css", include_str!("welcome/style.css"))];
