//! Guests in other languages: with an interpreter in them, or a library that knows WASI in a way of its own.

use std::fs;
use std::os::unix::fs::symlink;

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

#[test]
fn go_knows_its_working_directory_and_where_links_lead_and_why_a_file_cannot_be_made() -> Result<()>
{
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("go"))?;
        let (image, volume) = (node.image("hello-go")?, node.volume("go")?);
        fs::create_dir(volume.join("real"))?;
        fs::write(volume.join("real/file"), "found\n")?;
        symlink("/data/real", volume.join("folder"))?;
        let run = |name: &str, args: &[&str]| -> Result<(i32, String)> {
            let command = [&["/hello-go.wasm"], args].concat();
            let guest = Container::new(name, &image).command(&command).working_dir("/data/folder");
            let guest = pod.run(&guest.readonly_mount(&volume, "/data"))?;
            let (exit, logs) = (guest.wait()?, guest.logs()?);
            Ok((exit.code, logs.stdout + &logs.stderr))
        };
        assert_eq!(run("pwd", &["pwd"])?, (0, "/data/folder\n".into()));
        assert_eq!(run("cat", &["cat", "file"])?, (0, "found\n".into()));
        let leads = run("realpath", &["realpath", "/data/folder/file"])?;
        assert_eq!(leads, (0, "/data/real/file\n".into()));
        let (code, text) = run("write", &["write", "new", "text"])?;
        assert!(code == 1 && text.contains("new: Read-only file system"), "{text}");
        Ok(())
    })
}
