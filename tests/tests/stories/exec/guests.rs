//! Exec processes of a guest's container: wasm of the image, exports of the guest, and built-in commands.

use std::fs;

use anyhow::Result;
use tests::{Container, Pod, RunningContainer, on_each_containerd};

#[test]
fn wasm_of_the_image_is_executed_in_a_guests_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("tools"))?;
        let volume = node.volume("shared")?;
        fs::write(volume.join("in"), "from the host\n")?;
        let app = Container::new("app", &node.image("hello")?)
            .args(&["sleep", "1000"])
            .env("COLOUR", "green")
            .readonly_mount(&volume, "/shared");
        let app = pod.run(&app)?;
        app.wait_for_output("sleeping")?;
        let hello = |words: &[&str]| app.exec(&[&["/hello.wasm"], words].concat());
        assert_eq!(hello(&[])?.success()?.stdout, "hello from wasi\n");
        assert_eq!(hello(&["env", "COLOUR"])?.stdout, "green\n");
        assert_eq!(hello(&["cat", "/shared/in"])?.stdout, "from the host\n");
        assert_eq!(hello(&["write", "/shared/in", "changed"])?.code, 1, "the volume is read-only");
        let trapped = hello(&["trap"])?;
        assert!(trapped.code == 134 && trapped.stderr.contains("wasm backtrace"), "{trapped:?}");
        assert!(app.is_running()?);
        let error = format!("{:#}", app.exec(&["/no.wasm"]).expect_err("is not there"));
        assert!(error.contains("/no.wasm"), "{error}");
        Ok(())
    })
}

#[test]
fn exports_of_the_running_guest_are_called_with_arguments() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("calls"))?;
        let app = pod.run(&Container::new("app", &node.image("calc")?))?;
        assert_eq!(app.exec(&["#add", "40", "2"])?.success()?.stdout, "42\n");
        assert_eq!(app.exec(&["invoke", "add(40, 2)"])?.success()?.stdout, "42\n");
        assert_eq!(app.exec(&["/calc.wat#halve", "4"])?.success()?.stdout, "ok(2)\n");
        let odd = app.exec(&["#halve", "5"])?;
        assert_eq!((odd.code, odd.stdout.as_str()), (1, "err(5)\n"));
        let typo = app.exec(&["#add", "40", "two"])?;
        let reason = "argument 2, column 1: ";
        assert!(typo.code == 2 && typo.stderr.contains(reason), "{typo:?}");
        assert!(typo.stderr.contains("add: func(a: u32, b: u32) -> u32"), "{typo:?}");
        // An argument may be a secret.
        assert!(!typo.stderr.contains("two"), "{typo:?}");
        let error = format!("{:#}", app.exec(&["#subtract", "1"]).expect_err("there is none"));
        assert!(error.contains("add: func(a: u32, b: u32) -> u32"), "{error}");
        Ok(())
    })
}

#[test]
fn exports_of_a_core_module_are_called_with_numbers() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("numbers"))?;
        let volume = node.volume("modules")?;
        let module = r#"(module
            (global $base (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $base (i32.const 100)))
            (func (export "_start") (loop $again (br $again)))
            (func (export "add") (param i32 i32) (result i32)
                (i32.add (global.get $base) (i32.add (local.get 0) (local.get 1)))))"#;
        fs::write(volume.join("app.wat"), module)?;
        let app = Container::new("app", &node.image("hello")?).command(&["/modules/app.wat"]);
        let app = pod.run(&app.readonly_mount(&volume, "/modules"))?;
        assert_eq!(app.exec(&["#add", "2", "3"])?.success()?.stdout, "105\n");
        assert_eq!(app.exec(&["invoke", "add(2, 3)"])?.success()?.stdout, "105\n");
        let typo = app.exec(&["#add", "2", "three"])?;
        let reason =
            "argument 2, column 1: not a number of type i32; the function is add(i32, i32) -> i32";
        assert!(typo.code == 2 && typo.stderr.contains(reason), "{typo:?}");
        let error = format!("{:#}", app.exec(&["#_initialize"]).expect_err("is none to call"));
        assert!(error.contains("allowed is _start(), add(i32, i32) -> i32"), "{error}");
        Ok(())
    })
}

#[test]
fn a_library_that_is_run_by_itself_is_refused_with_how_its_exports_are_called() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("library"))?;
        let volume = node.volume("libraries")?;
        let module = r#"(module
            (global $base (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $base (i32.const 100)))
            (func (export "add") (param i32 i32) (result i32)
                (i32.add (global.get $base) (i32.add (local.get 0) (local.get 1)))))"#;
        fs::write(volume.join("lib.wat"), module)?;
        let guest = |name: &str, command: &[&str]| {
            let guest = Container::new(name, &node.image("hello")?).command(command);
            pod.run(&guest.readonly_mount(&volume, "/libraries"))
        };
        let refused = guest("alone", &["/libraries/lib.wat"]).map(drop).expect_err("no entry");
        let error = format!("{refused:#}");
        for part in [
            "there is no export _start, by which the guest would run by itself",
            "such as \"PATH#add\"; allowed is add(i32, i32) -> i32",
        ] {
            assert!(error.contains(part), "no {part} in {error}");
        }
        let called = guest("called", &["/libraries/lib.wat#add", "2", "3"])?;
        assert_eq!(called.wait()?.code, 0);
        assert_eq!(called.logs()?.stdout, "105\n");
        Ok(())
    })
}

#[test]
fn an_image_of_one_component_is_no_black_box() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("words"))?;
        let volume = node.volume("settings")?;
        fs::write(volume.join("colour"), "green\n")?;
        let app = Container::new("app", &node.image("hello-http")?)
            .env("COLOUR", "blue")
            .user(1000, 2000)
            .readonly_mount(&volume, "/settings");
        let app = pod.run(&app)?;
        let say = |words: &[&str]| -> Result<String> { Ok(app.exec(words)?.success()?.stdout) };
        assert_eq!(say(&["ls", "/settings"])?, "colour\n");
        assert!(say(&["ls", "-l", "/settings"])?.starts_with("-rw"));
        assert_eq!(say(&["cat", "/settings/colour"])?, "green\n");
        assert!(say(&["stat", "/settings/colour"])?.contains("file"));
        let env = say(&["env"])?;
        assert!(env.contains("COLOUR=blue\n") && env.contains("PWD=/\n"), "{env}");
        assert!(say(&["ps"])?.contains("wasm"));
        assert_eq!(say(&["wget", "-qO-", "http://localhost:8080/"])?, "hello from wasi:http\n");
        let wit = say(&["wit"])?;
        assert!(wit.contains("export wasi:http/incoming-handler@0.2"), "{wit}");
        let grants = say(&["grants"])?;
        assert!(grants.contains("user 1000, group 2000"), "{grants}");
        assert!(grants.contains("/settings : read only"), "{grants}");
        assert!(say(&["help"])?.contains("grants"));
        refuses_mistakes(&app)
    })
}

fn refuses_mistakes(app: &RunningContainer<'_>) -> Result<()> {
    for (words, code) in [(&["cat", "/none"][..], 1), (&["ls", "-Z"], 2)] {
        assert_eq!(app.exec(words)?.code, code, "{words:?}");
    }
    let refused = app.exec(&["wget", "http://localhost:8080/file?path=/none"])?;
    assert!(refused.code == 1 && refused.stderr.contains("404"), "{refused:?}");
    let error = format!("{:#}", app.exec(&["sh"]).expect_err("there is no shell"));
    assert!(error.contains("\"sh\"") && error.contains("help"), "{error}");
    Ok(())
}

#[test]
fn a_guest_that_computes_is_profiled_while_it_does() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("profiled"))?;
        let app = Container::new("app", &node.image("hello")?).args(&["spin"]).user(1000, 2000);
        let app = pod.run(&app)?;
        app.wait_for_output("spinning")?;
        let profile = app.exec(&["profile", "1s"])?.success()?.stdout;
        let profile: serde_json::Value = serde_json::from_str(&profile)?;
        assert!(profile.to_string().contains("hello::spin"), "{profile}");
        let misused = app.exec(&["profile", "for ever"])?;
        assert!(misused.code == 2 && misused.stderr.contains("profile SECONDS"), "{misused:?}");
        assert!(app.is_running()?);
        Ok(())
    })
}
