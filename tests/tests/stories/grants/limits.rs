//! Limits of a guest, and an export that is executed under its container's grants.

use std::fs;

use anyhow::Result;
use tests::{Container, Pod, config, on_each_containerd};

use super::{FILES, POLICY, refusal};
use crate::hostile::hostile;
use crate::pod::PORT;

const MAX_MEMORY: &str = "wasmtime.shim/max-memory";
const TIMEOUT: &str = "wasmtime.shim/timeout";
const MAX_BODY: &str = "wasmtime.shim/http-max-body";

#[test]
fn limits_are_within_the_ceiling_and_apply_where_nothing_names_them() -> Result<()> {
    on_each_containerd(|node| {
        let path = config::policy(node.folder());
        let ceiling = "max-memory = \"4Mi\"\ntimeout = \"2s\"\nhttp-max-body = 10\n";
        fs::write(&path, format!("[ceiling]\n{ceiling}"))?;
        let hello = node.image("hello")?;
        for (key, value, allowed) in
            [(MAX_MEMORY, "5Mi", "4Mi"), (TIMEOUT, "1m", "2s"), (MAX_BODY, "1Ki", "10")]
        {
            let text = refusal(node, &hello, &[(key, value)])?;
            let expected = format!(
                "annotation {key}: \"{value}\" is more than [ceiling] in {} allows; allowed is {allowed} or less",
                path.display()
            );
            assert!(text.contains(&expected), "{text}");
        }
        let pod = node.run_pod(&Pod::new("silent").handler(POLICY))?;
        let filling = pod.run(&Container::new("filling", &hello).args(&["fill"]))?;
        let (exit, logs) = (filling.wait()?, filling.logs()?);
        assert_eq!(exit.code, 0, "{logs:?}");
        let line = format!(
            "refused more memory: 4Mi are for all its instances (node's file, {MAX_MEMORY})"
        );
        assert!(logs.stderr.contains(&line), "{logs:?}");
        let sleeping = pod.run(&Container::new("sleeping", &hello).args(&["sleep", "1000"]))?;
        let grants = sleeping.exec(&["grants"])?.success()?.stdout;
        let line = format!("timeout: at most 2s (node's file, {TIMEOUT})\n");
        assert!(grants.contains(&line), "{grants}");
        assert_eq!(sleeping.wait()?.code, 124);
        // A server is not ended.
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let body = node.folder().join("body");
        fs::write(&body, "more than ten bytes")?;
        assert_eq!(pod.http_post(PORT, "/echo", &body)?.status, 413);
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert!(server.is_running()? && pod.http_get(PORT, "/")?.status == 200);
        Ok(())
    })
}

/// Errors of WASI 0.1.
const SUCCESS: &str = "0\n";
const NOT_PERMITTED: &str = "63\n";

#[test]
fn an_export_that_is_executed_has_the_grants_and_limits_of_its_container() -> Result<()> {
    on_each_containerd(|node| {
        let data = node.volume("data")?;
        fs::write(data.join("file"), "text")?;
        let pod = Pod::new("exports").annotation(FILES, "/data=ro");
        let pod = node.run_pod(&pod.annotation(MAX_MEMORY, "1Mi"))?;
        let app = pod.run(&hostile(node, "opens")?.mount(&data, "/data"))?;
        let climbs = "denied: file \"/data/../etc/hosts\": it leads out of the granted directory";
        let writes = "denied: file \"/data/file\": it may only be read";
        let grows = "1Mi are for all its instances";
        for (call, printed, reported) in [
            (&["#read"][..], SUCCESS, None),
            (&["#write"], NOT_PERMITTED, Some(writes)),
            (&["#climb"], NOT_PERMITTED, Some(climbs)),
            (&["invoke", "climb()"], NOT_PERMITTED, Some(climbs)),
            (&["#grow"], "16\n", Some(grows)),
        ] {
            let done = app.exec(call)?;
            assert_eq!((done.code, done.stdout.as_str()), (0, printed), "{call:?}: {done:?}");
            match reported {
                Some(line) => assert!(done.stderr.contains(line), "{call:?}: {done:?}"),
                None => assert_eq!(done.stderr, "", "{call:?}"),
            }
        }
        assert_eq!(fs::read_to_string(data.join("file"))?, "text");
        Ok(())
    })
}
