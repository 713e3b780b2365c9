//! Inference with a model that is a file of the guest.

use std::fs;

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

use super::run;

#[test]
fn a_guest_names_the_types_of_files_with_a_model_of_its_image() -> Result<()> {
    on_each_containerd(|node| {
        let (image, directory) = (node.image("hello-nn")?, node.volume("files")?);
        fs::copy("/proc/self/exe", directory.join("one"))?;
        let script =
            "import os\n\ndef main():\n    for name in os.listdir('.'):\n        print(name)\n";
        fs::write(directory.join("two"), script.repeat(3))?;
        let pod = node.run_pod(&Pod::new("nn"))?;
        let guest = Container::new("app", &image).readonly_mount(&directory, "/files");
        let (code, stdout, stderr) = run(&pod, &guest.args(&["/files/one", "/files/two"]))?;
        let labels: Vec<&str> = stdout.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!((code, labels.as_slice()), (0, &["elf", "python"][..]), "{stdout}{stderr}");
        Ok(())
    })
}

#[test]
fn what_is_no_model_or_finds_no_room_is_an_error_of_the_interface() -> Result<()> {
    on_each_containerd(|node| {
        let (image, directory) = (node.image("hello-nn")?, node.volume("model")?);
        let config = r#"{"beg_size":1,"end_size":1,"block_size":1,"padding_token":0,"target_labels_space":[]}"#;
        fs::write(directory.join("config.min.json"), config)?;
        fs::write(directory.join("model.onnx"), "weights")?;
        let pod = node.run_pod(&Pod::new("nn"))?;
        let guest = Container::new("none", &image).readonly_mount(&directory, "/model");
        let (code, stdout, stderr) = run(&pod, &guest.env("MODEL", "/model"))?;
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains("InvalidEncoding: cannot read the model"), "{stderr}");

        let small = Container::new("small", &image).memory_limit(20 << 20);
        let (code, _, stderr) = run(&pod, &small)?;
        assert!(code == 1 && stderr.contains("TooLarge: the limit of memory"), "{stderr}");
        Ok(())
    })
}
