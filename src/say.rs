//! Printing for people and pipes: a reader that went away ends nothing (`println!` would panic).

use std::{sync::Arc, time::SystemTime};

/// A line on stdout.
macro_rules! out {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Text on stdout.
macro_rules! out_text {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stdout(), $($text)*);
    }};
}

/// A line on stderr.
macro_rules! err {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Text on stderr.
macro_rules! err_text {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
}

/// One JSON line on stderr.
pub(crate) fn event(name: &str, fields: serde_json::Value) {
    err!("{}", line(name, fields));
}

/// What tells of events: a name and a JSON object.
pub(crate) type Say = Arc<dyn Fn(&str, serde_json::Value) + Send + Sync>;

/// The same as a value, for rooms that know nothing of stderr.
pub(crate) fn events() -> Say {
    Arc::new(event)
}

/// What stands on the line.
pub(crate) fn line(name: &str, mut fields: serde_json::Value) -> serde_json::Value {
    if let Some(object) = fields.as_object_mut() {
        object.insert("event".to_owned(), name.into());
        object.insert("time".to_owned(), proxy::rfc3339(SystemTime::now()).into());
    }
    fields
}
