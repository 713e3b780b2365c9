//! `wasi:logging`: a line of JSON on the container's stderr for each call.
//!
//! A guest often logs text that comes from elsewhere. So all characters that could end the line, or change how a
//! terminal shows it, are escaped, and the length is bounded.

use wasmtime::component::{LinkerInstance, WasmStr};

use super::types::Level;
use crate::host_calls;
use crate::output::log_at_rate_on_stderr;
use crate::state::State;

/// The longest context, in bytes of the line.
const CONTEXT_BYTES: usize = 256;

/// The longest message, in bytes of the line. With it, a line is shorter than 16 KiB, where CRI's logs break lines.
const MESSAGE_BYTES: usize = 15 << 10;

/// Defines the interface.
pub fn define(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap("log", |store, (level, context, message): (Level, WasmStr, WasmStr)| {
        host_calls::enter("wasi:logging log");
        let (context, message) = (context.to_str(&store)?, message.to_str(&store)?);
        let line = line(level, &context, &message, &store.data().request_id());
        log_at_rate_on_stderr(line.as_bytes());
        Ok(())
    })
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Critical => "critical",
    }
}

/// The line, without its end. The names of the fields are those of the access log.
fn line(level: Level, context: &str, message: &str, request_id: &str) -> String {
    let mut line = format!(r#"{{"level":"{}","context":"#, name(level));
    let mut cut = quote(context, CONTEXT_BYTES, &mut line);
    line += r#","message":"#;
    cut += quote(message, MESSAGE_BYTES, &mut line);
    if cut > 0 {
        line += &format!(r#","cut_bytes":{cut}"#);
    }
    if !request_id.is_empty() {
        line += r#","request_id":"#;
        quote(request_id, CONTEXT_BYTES, &mut line);
    }
    line + "}"
}

/// Adds a text as a string of JSON (RFC 8259, section 7), of at most that many bytes between its quotation marks. Returns how
/// many bytes of the text are left out.
fn quote(text: &str, limit: usize, line: &mut String) -> usize {
    line.push('"');
    let begin = line.len();
    let mut cut = 0;
    for (at, char) in text.char_indices() {
        let before = line.len();
        match char {
            '"' => line.push_str(r#"\""#),
            '\\' => line.push_str(r"\\"),
            '\n' => line.push_str(r"\n"),
            '\t' => line.push_str(r"\t"),
            char if is_escaped(char) => line.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => line.push(char),
        }
        if line.len() - begin > limit {
            line.truncate(before);
            cut = text.len() - at;
            break;
        }
    }
    line.push('"');
    cut
}

/// Control characters, of which some end a line and others begin what a terminal obeys; the line ends of Unicode; and what
/// makes text run the other way.
fn is_escaped(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_message_cannot_end_its_line_nor_command_a_terminal() {
        let message = "a\nb\r\u{85}\u{2028}c\u{1b}[2J\u{9b}2J\0\u{202e}\"\\ {\"level\":\"error\"}";
        let line = line(Level::Info, "con\ntext", message, "");
        assert!(!line.chars().any(is_escaped), "{line:?}");
        let parsed: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed, json!({"level": "info", "context": "con\ntext", "message": message}));
    }

    #[test]
    fn a_line_is_bounded_however_much_must_be_escaped() {
        for (char, length) in [("x", 1 << 20), ("\u{1b}", 1 << 16), ("ü", 1 << 16)] {
            let text = char.repeat(length);
            let line = line(Level::Critical, &text, &text, "7");
            assert!(line.len() < 16 << 10, "{}", line.len());
            let parsed: Value = serde_json::from_str(&line).expect("JSON");
            let has = |field: &str| parsed[field].as_str().expect("a text").len();
            let cut = parsed["cut_bytes"].as_u64().expect("a number") as usize;
            assert_eq!(has("context") + has("message") + cut, 2 * text.len());
            assert_eq!(parsed["request_id"], "7");
        }
    }
}
