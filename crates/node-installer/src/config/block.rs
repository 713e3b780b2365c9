//! The part of a file that the installer adds. It is between two marker lines, and is added at the end and removed
//! again as text, so that every other byte stays as it is.

const BEGIN: &str = "# begin of what node-installer of wasmtime-shim added";
const END: &str = "# end of what node-installer of wasmtime-shim added";

/// Returns a text with our part at its end. An earlier part of ours is replaced.
pub fn with(text: &str, part: &str) -> String {
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut text = without(text);
    if !text.is_empty() && !text.ends_with('\n') {
        text += end;
    }
    let part = format!("\n{BEGIN}\n{part}{END}\n");
    text + &part.replace('\n', end)
}

/// Returns a text without our part.
pub fn without(text: &str) -> String {
    let Some((before, rest)) = text.split_once(BEGIN) else { return text.to_owned() };
    let before = before.strip_suffix('\n').unwrap_or(before);
    let before = before.strip_suffix('\r').unwrap_or(before);
    let after = rest.split_once(END).map_or("", |(_, after)| after);
    let after = after.strip_prefix('\r').unwrap_or(after);
    before.to_owned() + after.strip_prefix('\n').unwrap_or(after)
}

/// Returns whether a text has our part.
pub fn is_in(text: &str) -> bool {
    text.contains(BEGIN)
}

#[cfg(test)]
mod tests {
    use super::{is_in, with, without};

    #[test]
    fn what_was_put_in_is_taken_out_and_nothing_else() {
        for text in ["", "a = 1\n", "a = 1\r\nb = 2\r\n", "a\n\n\n"] {
            let whole = with(text, "c = 3\n");
            assert!(is_in(&whole) && !is_in(text));
            assert_eq!(without(&whole), text);
            assert_eq!(with(&whole, "c = 3\n"), whole);
            assert_eq!(without(&(whole + "d = 4\n")), format!("{text}d = 4\n"));
        }
        assert_eq!(without(&with("no line break", "c\n")), "no line break\n");
        assert_eq!(with("a\r\n", "c\n").matches("\r\n").count(), 5);
    }
}
