//! Where compiled code is kept, with a containerd and without. The compiler here counts how often it is asked.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use image::cache::{Allowed, Cache, Turn};
use image::{Component, Container, Error, Workload, resolve};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use xattr::FileExt as _;

use super::{CONFIG, Daemon, MODULE, NAME, NAMESPACE, WASM, component, resolved, with_image};

const ENGINE: &str = "engine 1";

/// More than there are at a time in any test.
const ALLOWED: Allowed = Allowed { at_a_time: 1000, time: Duration::from_secs(100) };

/// Makes code of a given size, and counts.
#[derive(Default)]
struct Compiler {
    calls: AtomicUsize,
    bytes: u64,
}

impl Compiler {
    fn of_bytes(bytes: u64) -> Compiler {
        Compiler { calls: AtomicUsize::new(0), bytes }
    }

    async fn code(&self, cache: &Cache, component: &Component) -> File {
        self.code_for(ENGINE, cache, component).await
    }

    async fn code_for(&self, engine: &str, cache: &Cache, component: &Component) -> File {
        let compile = async |layers: Vec<File>, _turn: Turn| {
            assert!(!layers.is_empty());
            self.calls.fetch_add(1, Ordering::Relaxed);
            // Others that start meanwhile get as far as they can.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut code = tempfile::tempfile().unwrap();
            code.write_all(b"code").unwrap();
            code.set_len(self.bytes.max(4)).unwrap();
            Ok::<_, Error>(("a world".to_owned(), code))
        };
        let (about, code) = cache.code(component, engine, ALLOWED, compile).await.unwrap();
        assert_eq!(about, "a world");
        let mut start = [0; 4];
        code.read_exact_at(&mut start, 0).unwrap();
        assert_eq!(&start, b"code");
        code
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

/// Where an open file is.
fn path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// Code of a file, of which the content store has nothing.
async fn of_file(folder: &Path, text: &[u8]) -> Component {
    let root = folder.join("root");
    fs::create_dir_all(&root).unwrap();
    let file = root.join("app.wat");
    if fs::read(&file).ok().as_deref() != Some(text) {
        fs::write(file, text).unwrap();
    }
    let container = Container {
        containerd: None,
        namespace: NAMESPACE,
        id: "c",
        rootfs: &root,
        args: &["/app.wat".to_owned()],
        cwd: Path::new("/"),
        env: &[],
        mounts: &[],
        preinit: None,
        layers: &[],
    };
    match resolve(&container).await.unwrap() {
        Workload::Guest(component) => component,
        Workload::Program => panic!("taken for a Linux program"),
    }
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = names.map(|it| it.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn code_of_a_layer_is_compiled_once_and_goes_with_the_layer() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    let (cache, compiler) = (Cache::new(folder.path().join("cache")), Compiler::default());
    let first = path(&compiler.code(&cache, &component).await);
    assert!(first.starts_with(daemon.root()), "{first:?} is not in the content store");
    assert_eq!(path(&compiler.code(&cache, &component).await), first);
    assert_eq!(compiler.calls(), 1);
    assert_eq!(names(&folder.path().join("cache")), ["lock"]);

    daemon.collect_garbage();
    assert!(first.exists(), "went although its layer is there");
    daemon.succeeds(&["image", "remove", "--sync", NAME]);
    assert!(!first.exists(), "stayed although its layer is gone");
}

#[tokio::test]
async fn code_survives_that_its_image_is_pulled_again() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let (cache, compiler) = (Cache::new(folder.path().to_owned()), Compiler::default());
    for _ in 0..2 {
        let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
        compiler.code(&cache, &component).await;
        super::import(&daemon, CONFIG, &[(WASM, MODULE)]);
        daemon.collect_garbage();
    }
    assert_eq!(compiler.calls(), 1);
}

#[tokio::test]
async fn code_larger_than_a_message_of_containerds_is_kept_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    let (cache, compiler) = (Cache::new(folder.path().into()), Compiler::of_bytes(257 << 20));
    for _ in 0..2 {
        assert!(path(&compiler.code(&cache, &component).await).starts_with(daemon.root()));
    }
    assert_eq!(compiler.calls(), 1);
}

/// Writes large code, and is gone in the middle of it, with its connections, as a process that was killed.
fn write_half(daemon: &Daemon, cache: &Cache) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let component = component(resolved(daemon, "/app.wasm").await.unwrap());
        let large = Compiler::of_bytes(512 << 20);
        tokio::select! {
            _ = large.code(cache, &component) => panic!("nothing was interrupted"),
            () = daemon.is_written_to() => {}
        }
    });
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_was_half_written_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let cache = Cache::new(folder.path().into());
    std::thread::scope(|scope| drop(scope.spawn(|| write_half(&daemon, &cache))));
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    let small = Compiler::default();
    assert!(path(&small.code(&cache, &component).await).starts_with(daemon.root()));
    assert_eq!(small.calls(), 1);
}

#[tokio::test]
async fn containers_that_start_together_compile_once() {
    let folder = tempfile::tempdir().unwrap();
    let compiler = Arc::new(Compiler::default());
    let mut starts = Vec::new();
    for _ in 0..20 {
        let component = of_file(folder.path(), b"(module)").await;
        let (compiler, cache) = (compiler.clone(), Cache::new(folder.path().join("cache")));
        starts.push(tokio::spawn(async move {
            compiler.code(&cache, &component).await;
        }));
    }
    for start in starts {
        start.await.unwrap();
    }
    assert_eq!(compiler.calls(), 1);
}

#[tokio::test]
async fn code_of_another_engine_or_another_file_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, compiler) = (Cache::new(folder.path().join("cache")), Compiler::default());
    let component = of_file(folder.path(), b"(module)").await;
    compiler.code(&cache, &component).await;
    compiler.code_for("engine 2", &cache, &component).await;
    assert_eq!(compiler.calls(), 2);
    let other = of_file(folder.path(), b"(module  )").await;
    compiler.code_for("engine 2", &cache, &other).await;
    assert_eq!(compiler.calls(), 3);
    for component in [component, other] {
        compiler.code_for("engine 2", &cache, &component).await;
    }
    assert_eq!(compiler.calls(), 3);
    // What was for the first engine made room for what is for the second.
    assert_eq!(names(&folder.path().join("cache")).len(), 3);
}

#[tokio::test]
async fn code_is_roots_own_and_its_file_is_not_to_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("cache"));
    let component = of_file(folder.path(), b"(module)").await;
    let code = Compiler::default().code(&cache, &component).await;
    assert_eq!(code.metadata().unwrap().permissions().mode() & 0o7777, 0o400);
    let directory = fs::metadata(folder.path().join("cache")).unwrap();
    assert_eq!(directory.permissions().mode() & 0o7777, 0o700);
}

/// What becomes of code whose file is damaged by `damage`.
async fn compiled_again_after(damage: impl FnOnce(&File)) {
    let folder = tempfile::tempdir().unwrap();
    let (cache, compiler) = (Cache::new(folder.path().join("cache")), Compiler::of_bytes(5000));
    let component = of_file(folder.path(), b"(module)").await;
    let code = compiler.code(&cache, &component).await;
    damage(&File::options().write(true).open(path(&code)).unwrap());
    compiler.code(&cache, &component).await;
    assert_eq!(compiler.calls(), 2);
    compiler.code(&cache, &component).await;
    assert_eq!(compiler.calls(), 2);
}

#[tokio::test]
async fn code_that_is_cut_off_is_compiled_again() {
    compiled_again_after(|file| file.set_len(4000).unwrap()).await;
    compiled_again_after(|file| file.set_len(0).unwrap()).await;
}

#[tokio::test]
async fn code_that_is_another_after_a_boot_is_compiled_again() {
    compiled_again_after(|file| {
        file.write_all_at(b"x", 1000).unwrap();
        file.remove_xattr("user.wasmtime-shim.checked").unwrap();
    })
    .await;
}

#[tokio::test]
async fn code_that_others_may_write_to_is_compiled_again() {
    compiled_again_after(|file| file.set_permissions(fs::Permissions::from_mode(0o666)).unwrap())
        .await;
}

#[tokio::test]
async fn a_link_in_the_place_of_code_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, compiler) = (Cache::new(folder.path().join("cache")), Compiler::default());
    let component = of_file(folder.path(), b"(module)").await;
    let code = path(&compiler.code(&cache, &component).await);
    let elsewhere = folder.path().join("elsewhere");
    fs::rename(&code, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &code).unwrap();
    let again = path(&compiler.code(&cache, &component).await);
    assert_eq!((compiler.calls(), again), (2, code));
}

#[tokio::test]
async fn without_a_directory_guests_are_compiled_each_time() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cache"), b"a file").unwrap();
    let (cache, compiler) = (Cache::new(folder.path().join("cache")), Compiler::default());
    let component = of_file(folder.path(), b"(module)").await;
    for _ in 0..2 {
        compiler.code(&cache, &component).await;
    }
    assert_eq!(compiler.calls(), 2);
}

#[tokio::test]
async fn what_else_is_in_the_directory_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::of(folder.path().join("disk"), "1m");
    fs::create_dir(disk.0.join("lost+found")).unwrap();
    fs::write(disk.0.join("notes"), vec![0; 300 << 10]).unwrap();
    let (cache, compiler) = (Cache::new(disk.0.clone()), Compiler::of_bytes(200 << 10));
    for text in [&b"(module)"[..], b"(module )", b"(module  )", b"(module   )"] {
        let component = of_file(folder.path(), text).await;
        let kept = path(&compiler.code(&cache, &component).await);
        assert!(kept.starts_with(&disk.0), "{kept:?} is not kept");
    }
    let names = names(&disk.0);
    assert!(names.contains(&"notes".into()) && names.contains(&"lost+found".into()), "{names:?}");
}

/// A small disk that is unmounted with this value.
struct Disk(PathBuf);

impl Disk {
    fn of(path: PathBuf, size: &str) -> Disk {
        fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=755");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        Disk(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test]
async fn on_a_full_disk_guests_run_and_nothing_is_left_of_their_code() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::of(folder.path().join("disk"), "1m");
    let component = of_file(folder.path(), b"(module)").await;
    let (cache, large) = (Cache::new(disk.0.clone()), Compiler::of_bytes(2 << 20));
    for _ in 0..2 {
        large.code(&cache, &component).await;
    }
    assert_eq!(large.calls(), 2);
    assert_eq!(names(&disk.0), ["lock"]);
    let small = Compiler::of_bytes(1000);
    for _ in 0..2 {
        small.code(&cache, &component).await;
    }
    assert_eq!(small.calls(), 1);
}

#[tokio::test]
async fn what_was_used_longest_ago_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::of(folder.path().join("disk"), "1m");
    let (cache, compiler) = (Cache::new(disk.0.clone()), Compiler::of_bytes(300 << 10));
    let texts: [&[u8]; 3] = [b"(module)", b"(module )", b"(module  )"];
    for (age, text) in [30, 20].into_iter().zip(texts) {
        let code = compiler.code(&cache, &of_file(folder.path(), text).await).await;
        let long_ago = SystemTime::now() - Duration::from_secs(age * 86400);
        code.set_modified(long_ago).unwrap();
    }
    // The older one is used, and so is not the one to go.
    compiler.code(&cache, &of_file(folder.path(), texts[0]).await).await;
    compiler.code(&cache, &of_file(folder.path(), texts[2]).await).await;
    assert_eq!(compiler.calls(), 3);
    compiler.code(&cache, &of_file(folder.path(), texts[0]).await).await;
    assert_eq!(compiler.calls(), 3);
    compiler.code(&cache, &of_file(folder.path(), texts[1]).await).await;
    assert_eq!(compiler.calls(), 4);
}
