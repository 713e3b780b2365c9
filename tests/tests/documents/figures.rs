//! The figures in `README.md`.

use std::collections::BTreeSet;
use std::fs;

use super::root;

#[test]
fn each_figure_of_the_readme_is_one_that_was_measured() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a document");
    let (readme, measured) = (read("README.md"), read("docs/benchmarks.md"));
    let measured: BTreeSet<_> = measured.split_whitespace().collect();
    let section = readme.split("\n## Figures\n").nth(1).expect("a section with figures");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = rows.flat_map(|row| row.split('|').skip(2).map(str::trim));
    let figures: Vec<_> =
        cells.filter_map(|cell| cell.split(' ').next()).filter(is_number).collect();
    assert!(figures.len() >= 10, "{figures:?}");
    for figure in figures {
        assert!(measured.contains(figure), "{figure} is not in docs/benchmarks.md");
    }
}

fn is_number(text: &&str) -> bool {
    text.starts_with(|it: char| it.is_ascii_digit())
}
