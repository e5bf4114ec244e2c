//! The pages that are served where no folder was named: they explain what runs where.

/// Each page's path and text.
pub const WELCOME_PAGES: &[(&str, &str)] =
    &[("index.html", include_str!("welcome/index.html")), ("style.css", include_str!("welcome/style.css"))];
