//! The reference page of the file, made from the table of keys.

use crate::authority;
use crate::codes;
use crate::schema::{Default, Key, SECTIONS, Section};
use std::fmt::Write;

/// Every key of the sidecar's file with type, default and explanation, then every code of a problem, as markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = format!("{INTRODUCTION}{MANNER}");
    for section in SECTIONS {
        write_section(&mut out, section);
    }
    out.push_str("\n## Codes of problems\n\n| code | what | more |\n| --- | --- | --- |\n");
    for code in codes::ALL {
        let _ = writeln!(out, "| {} | {} | {} |", code.id, code.title, cell(code.text));
    }
    out
}

/// Every key of the CA's file, as markdown.
#[must_use]
pub fn ca_reference() -> String {
    let mut out = format!("{OF_THE_CA}{MANNER}");
    for section in authority::SECTIONS {
        write_section(&mut out, section);
    }
    out
}

const INTRODUCTION: &str = "# The file, key by key

This page is generated from the code. One TOML file describes one sidecar. ";

const OF_THE_CA: &str = "# The file of the CA, key by key

This page is generated from the code. One TOML file describes one CA, `sekisho ca serve -c FILE`. ";

const MANNER: &str = "The schema is closed: an unknown key is
an error, with a suggestion. Durations are a number with a unit, `\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h\"`, `\"1d\"`.
Where the type says `(s)`, one value or a list of them may stand.
";

fn write_section(out: &mut String, section: &Section) {
    let title = if section.title.is_empty() { "Top of the file".into() } else { format!("`{}`", section.title) };
    let _ = writeln!(out, "\n## {title}\n\n{}\n", section.doc);
    out.push_str("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in section.keys {
        write_key(out, key);
    }
    if !section.later.is_empty() {
        let names: Vec<String> = section.later.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(out, "\nNot yet supported, and refused by name: {}.", names.join(", "));
    }
}

fn write_key(out: &mut String, key: &Key) {
    let default = match key.default {
        Default::Required => "required".to_owned(),
        Default::Absent(text) => format!("not set: {text}"),
        Default::Text(text) => format!("`\"{text}\"`"),
        Default::Number(n) => format!("`{n}`"),
        Default::Flag(flag) => format!("`{flag}`"),
        Default::List(items) => {
            format!("`[{}]`", items.iter().map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(", "))
        }
    };
    let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, cell(key.kind), cell(key.doc));
}

/// A bar would end a cell, inside code as well (GitHub Flavored Markdown, tables).
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::reference;
    use crate::schema::SECTIONS;

    #[test]
    fn every_key_and_every_later_key_is_on_the_page() {
        let page = reference();
        for section in SECTIONS {
            for name in section.keys.iter().map(|k| k.name).chain(section.later.iter().copied()) {
                assert!(page.contains(&format!("`{name}`")), "{name}");
            }
        }
        assert!(page.lines().filter(|l| l.starts_with("| `")).all(|l| l.replace("\\|", "").matches('|').count() == 5));
    }
}
