//! The picture in `README.md`.

use std::process::Command;

use super::{compare, root};

#[test]
fn the_picture_is_drawn_from_its_description() {
    let awk = Command::new("awk")
        .args(["-f", "scripts/draw.awk", "docs/picture.txt"])
        .current_dir(root())
        .output()
        .expect("awk is there");
    assert!(awk.status.success(), "{}", String::from_utf8_lossy(&awk.stderr));
    let picture = String::from_utf8(awk.stdout).expect("text");
    assert!(picture.ends_with("</svg>\n"), "{picture}");
    compare("docs/picture.svg", &picture);
}
