//! The reference pages of the files are what the code says. `SEKISHO_UPDATE=1` writes them anew.

use std::path::Path;

#[test]
fn the_reference_page_is_current() {
    is_current("docs/reference/config.md", &config::reference());
}

#[test]
fn the_reference_page_of_the_ca_is_current() {
    is_current("docs/reference/ca.md", &config::ca_reference());
}

fn is_current(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("SEKISHO_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder can be made");
        std::fs::write(&path, wanted).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{name} is not current; run the test with SEKISHO_UPDATE=1");
}
