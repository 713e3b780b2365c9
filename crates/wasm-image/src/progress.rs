//! Reports progress on standard error: with bars on a terminal, otherwise with one line for each step.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of one blob. Its bar disappears when it is dropped.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Shows a blob of that many bytes. `what` is, for example, "sending sha256:0123…".
    pub fn new(what: &str, length: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            note(&format!("{what} ({})", size(length)));
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let template = "{msg} {wide_bar} {binary_bytes:>10} of {binary_total_bytes} {eta:>4}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// Sets the number of finished bytes.
    pub fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints one line.
pub fn note(text: &str) {
    eprintln!("{}", printable(text));
}

/// Escapes a text for a terminal, because foreign names and messages could contain commands to it.
pub fn printable(text: &str) -> String {
    let shown = |it: char| match it {
        '\n' => it.to_string(),
        it if it.is_control() => it.escape_default().to_string(),
        it => it.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Formats a size in bytes for people.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_is_a_command_to_a_terminal() {
        assert_eq!(printable("one\n  tw\u{1b}[2Jo é"), "one\n  tw\\u{1b}[2Jo é");
    }
}
