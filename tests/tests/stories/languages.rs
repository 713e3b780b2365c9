//! Guests that serve HTTP and have an interpreter in them.

use std::fs;

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

use crate::pod::{LISTEN, PORT};

#[test]
fn servers_in_javascript_and_python_answer_and_stream_side_by_side() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("languages"))?;
        pod.run(&Container::new("javascript", &node.image("hello-http-js")?))?;
        let python = Container::new("python", &node.image("hello-http-python")?);
        pod.run(&python.env(LISTEN, "0.0.0.0:9090"))?;

        let text: String = (0..30_000).map(|line| format!("line {line}\n")).collect();
        let file = node.volume("languages")?.join("body");
        fs::write(&file, &text)?;
        for (port, greeting) in [(PORT, "hello from JavaScript\n"), (9090, "hello from Python\n")] {
            let said = |path: &str| -> Result<(u16, String)> {
                let answer = pod.http_get(port, path)?;
                Ok((answer.status, answer.body))
            };
            assert_eq!(said("/")?, (200, greeting.into()));
            assert_eq!(said("/elsewhere")?, (404, "nothing at /elsewhere\n".into()));
            let echo = pod.http_post(port, "/echo", &file)?;
            assert_eq!(echo.status, 200);
            assert!(echo.body == text, "{} of {} bytes came back", echo.body.len(), text.len());
        }
        Ok(())
    })
}
