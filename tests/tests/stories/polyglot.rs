//! Components in Rust, Python and JavaScript, which call each other in one container.

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

#[test]
fn rust_python_and_javascript_count_words_together() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("polyglot")?;
        let pod = node.run_pod(&Pod::new("polyglot"))?;
        let count = |name: &str, words: &[&str]| -> Result<(i32, String, String)> {
            let container = pod.run(&Container::new(name, &image).args(words))?;
            let exit = container.wait()?;
            let logs = container.logs()?;
            Ok((exit.code, logs.stdout, logs.stderr))
        };
        // JavaScript makes them the same words and a table, and Python counts.
        let counted = count("counts", &["Wasm", "Rust", "wasm", "RUST", "Python", "rust"])?;
        let table = "rust   3 ###\nwasm   2 ##\npython 1 #\n6 words, 3 different\n";
        assert_eq!(counted, (0, table.to_owned(), String::new()));
        // JavaScript refuses the word, Python says which one it was, and Rust ends with that.
        let refused = count("refuses", &["Rust", "4x4"])?;
        let error = "polyglot: word 2: \"4x4\" is not a word\n";
        assert_eq!(refused, (1, String::new(), error.to_owned()));
        Ok(())
    })
}
