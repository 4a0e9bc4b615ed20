//! The reference page of the file is what the code says. `SEKISHO_UPDATE=1` writes it anew.

use std::path::Path;

#[test]
fn the_reference_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/config.md");
    let wanted = config::reference();
    if std::env::var_os("SEKISHO_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder can be made");
        std::fs::write(&path, &wanted).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/reference/config.md is not current; run the test with SEKISHO_UPDATE=1");
}
