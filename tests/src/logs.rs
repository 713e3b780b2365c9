//! Parses the log file of a container as CRI defines it: `TIME stdout|stderr F|P TEXT`, with one write per line.

use anyhow::{Context, Result, bail};

/// The output of a container, each stream in one piece.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Time of the first line, as in the file (RFC 3339 with nanoseconds).
    pub first_written: Option<String>,
}

impl Logs {
    /// Parses the text of a log file. An incomplete line is left out.
    pub fn parse(text: &str) -> Result<Self> {
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut logs = Self::default();
        for line in complete.lines() {
            logs.push(line).with_context(|| format!("log line {line:?}"))?;
        }
        Ok(logs)
    }

    fn push(&mut self, line: &str) -> Result<()> {
        let mut fields = line.splitn(4, ' ');
        let mut field = |name| fields.next().with_context(|| format!("no {name}"));
        let (time, stream, tag, text) =
            (field("time")?, field("stream")?, field("tag")?, field("text")?);
        let stream = match stream {
            "stdout" => &mut self.stdout,
            "stderr" => &mut self.stderr,
            other => bail!("unknown stream {other}"),
        };
        stream.push_str(text);
        match tag {
            "F" => stream.push('\n'),
            "P" => {}
            other => bail!("unknown tag {other}"),
        }
        self.first_written.get_or_insert_with(|| time.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_lines_are_joined_per_stream() {
        let logs = Logs::parse("t1 stdout P a\nt2 stderr F x\nt3 stdout F b\nt4 stdo").unwrap();
        assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("ab\n", "x\n"));
        assert_eq!(logs.first_written.as_deref(), Some("t1"));
    }
}
