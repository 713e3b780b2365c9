//! Writes errors of libraries as one line of a log or of an event, because `kubectl describe` shows only one line of an
//! error.
#![forbid(unsafe_code)]

use std::error::Error;
use std::iter::successors;

/// Returns the causes of an error, the nearest first.
pub fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(error.source(), |&cause| cause.source())
}

/// Returns an error and its causes, separated by colons. A cause that the text already contains is left out, because
/// some errors include their causes themselves.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    causes(error).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Returns a text without line ends and indentation.
pub fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    fn failed(text: &'static str, cause: impl Into<Option<Failed>>) -> Failed {
        Failed(text, cause.into().map(Box::new))
    }

    #[test]
    fn each_cause_is_written_once() {
        let refused = || failed("connection refused", None);
        let silent = failed("cannot connect", failed("tcp", refused()));
        assert_eq!(with_causes(&silent), "cannot connect: tcp: connection refused");
        let itself = failed("cannot connect: connection refused", refused());
        assert_eq!(with_causes(&itself), "cannot connect: connection refused");
    }

    #[test]
    fn a_text_of_several_lines_becomes_one() {
        assert_eq!(
            on_one_line("expected:\n    a type\n  found: none\n"),
            "expected: a type found: none"
        );
    }
}
