//! Tests of the cache of compiled code, with and without a containerd. The compiler here counts its calls.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use image::cache::{Allowed, Cache, CompileSlot};
use image::{Component, Container, Error, Workload, resolve};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use xattr::FileExt as _;

use super::{CONFIG, Daemon, MODULE, NAME, NAMESPACE, WASM, component, resolved, with_image};

const ENGINE: &str = "engine 1";

/// Limits that no test reaches.
const ALLOWED: Allowed = Allowed { at_a_time: 1000, time: Duration::from_secs(100) };

/// Compiler that makes code of a given size, and counts its calls.
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
        let compile = async |layers: Vec<File>, _slot: CompileSlot| {
            assert!(!layers.is_empty());
            self.calls.fetch_add(1, Ordering::Relaxed);
            // While this one sleeps, others that start reach the lock.
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

/// Path of an open file.
fn path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// Component of a file. Its code is never in the content store.
async fn of_file(directory: &Path, text: &[u8]) -> Component {
    let root = directory.join("root");
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
        Workload::Guest(component) => *component,
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
async fn code_of_a_layer_is_compiled_once_and_removed_with_the_layer() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    let (cache, compiler) = (Cache::new(directory.path().join("cache")), Compiler::default());
    let first = path(&compiler.code(&cache, &component).await);
    assert!(first.starts_with(daemon.root()), "{first:?} is not in the content store");
    assert_eq!(path(&compiler.code(&cache, &component).await), first);
    assert_eq!(compiler.calls(), 1);
    assert_eq!(names(&directory.path().join("cache")), ["lock"]);

    daemon.collect_garbage();
    assert!(first.exists(), "was removed although its layer exists");
    daemon.succeeds(&["image", "remove", "--sync", NAME]);
    assert!(!first.exists(), "remains although its layer was removed");
}

#[tokio::test]
async fn code_remains_when_its_image_is_pulled_again() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let (cache, compiler) = (Cache::new(directory.path().to_owned()), Compiler::default());
    for _ in 0..2 {
        let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
        compiler.code(&cache, &component).await;
        super::import(&daemon, CONFIG, &[(WASM, MODULE)]);
        daemon.collect_garbage();
    }
    assert_eq!(compiler.calls(), 1);
}

#[tokio::test]
async fn code_larger_than_a_message_to_containerd_is_stored() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    let (cache, compiler) = (Cache::new(directory.path().into()), Compiler::of_bytes(257 << 20));
    for _ in 0..2 {
        assert!(path(&compiler.code(&cache, &component).await).starts_with(daemon.root()));
    }
    assert_eq!(compiler.calls(), 1);
}

/// Starts to write large code, and stops in the middle. All connections close, as if the process had been killed.
fn write_half(daemon: &Daemon, cache: &Cache) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let component = component(resolved(daemon, "/app.wasm").await.unwrap());
        let large = Compiler::of_bytes(512 << 20);
        tokio::select! {
            _ = large.code(cache, &component) => panic!("nothing was interrupted"),
            () = daemon.wait_until_written_to() => {}
        }
    });
    runtime.shutdown_background();
}

#[tokio::test]
async fn half_written_code_is_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    let cache = Cache::new(directory.path().into());
    std::thread::scope(|scope| drop(scope.spawn(|| write_half(&daemon, &cache))));
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    let small = Compiler::default();
    assert!(path(&small.code(&cache, &component).await).starts_with(daemon.root()));
    assert_eq!(small.calls(), 1);
}

#[tokio::test]
async fn containers_that_start_together_compile_once() {
    let directory = tempfile::tempdir().unwrap();
    let compiler = Arc::new(Compiler::default());
    let mut starts = Vec::new();
    for _ in 0..20 {
        let component = of_file(directory.path(), b"(module)").await;
        let (compiler, cache) = (compiler.clone(), Cache::new(directory.path().join("cache")));
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
async fn code_of_another_engine_or_file_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, compiler) = (Cache::new(directory.path().join("cache")), Compiler::default());
    let component = of_file(directory.path(), b"(module)").await;
    compiler.code(&cache, &component).await;
    compiler.code_for("engine 2", &cache, &component).await;
    assert_eq!(compiler.calls(), 2);
    let other = of_file(directory.path(), b"(module  )").await;
    compiler.code_for("engine 2", &cache, &other).await;
    assert_eq!(compiler.calls(), 3);
    for component in [component, other] {
        compiler.code_for("engine 2", &cache, &component).await;
    }
    assert_eq!(compiler.calls(), 3);
    // The code for the second engine has replaced the code for the first.
    assert_eq!(names(&directory.path().join("cache")).len(), 3);
}

#[tokio::test]
async fn the_directory_is_for_root_alone_and_code_is_read_only() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path().join("cache"));
    let component = of_file(directory.path(), b"(module)").await;
    let code = Compiler::default().code(&cache, &component).await;
    assert_eq!(code.metadata().unwrap().permissions().mode() & 0o7777, 0o400);
    let metadata = fs::metadata(directory.path().join("cache")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o700);
}

/// Checks that code is compiled again, once, after `damage` has changed its file.
async fn compiled_again_after(damage: impl FnOnce(&File)) {
    let directory = tempfile::tempdir().unwrap();
    let (cache, compiler) = (Cache::new(directory.path().join("cache")), Compiler::of_bytes(5000));
    let component = of_file(directory.path(), b"(module)").await;
    let code = compiler.code(&cache, &component).await;
    damage(&File::options().write(true).open(path(&code)).unwrap());
    compiler.code(&cache, &component).await;
    assert_eq!(compiler.calls(), 2);
    compiler.code(&cache, &component).await;
    assert_eq!(compiler.calls(), 2);
}

#[tokio::test]
async fn truncated_code_is_compiled_again() {
    compiled_again_after(|file| file.set_len(4000).unwrap()).await;
    compiled_again_after(|file| file.set_len(0).unwrap()).await;
}

#[tokio::test]
async fn code_that_changed_before_a_boot_is_compiled_again() {
    compiled_again_after(|file| {
        file.write_all_at(b"x", 1000).unwrap();
        file.remove_xattr("user.wasmtime-shim.checked").unwrap();
    })
    .await;
}

#[tokio::test]
async fn code_that_other_users_can_write_is_compiled_again() {
    compiled_again_after(|file| file.set_permissions(fs::Permissions::from_mode(0o666)).unwrap())
        .await;
}

#[tokio::test]
async fn a_link_in_place_of_code_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, compiler) = (Cache::new(directory.path().join("cache")), Compiler::default());
    let component = of_file(directory.path(), b"(module)").await;
    let code = path(&compiler.code(&cache, &component).await);
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&code, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &code).unwrap();
    let again = path(&compiler.code(&cache, &component).await);
    assert_eq!((compiler.calls(), again), (2, code));
}

#[tokio::test]
async fn without_a_directory_guests_are_compiled_each_time() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("cache"), b"a file").unwrap();
    let (cache, compiler) = (Cache::new(directory.path().join("cache")), Compiler::default());
    let component = of_file(directory.path(), b"(module)").await;
    for _ in 0..2 {
        compiler.code(&cache, &component).await;
    }
    assert_eq!(compiler.calls(), 2);
}

#[tokio::test]
async fn other_files_in_the_directory_remain() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path().join("disk"), "1m");
    fs::create_dir(disk.0.join("lost+found")).unwrap();
    fs::write(disk.0.join("notes"), vec![0; 300 << 10]).unwrap();
    let (cache, compiler) = (Cache::new(disk.0.clone()), Compiler::of_bytes(200 << 10));
    for text in [&b"(module)"[..], b"(module )", b"(module  )", b"(module   )"] {
        let component = of_file(directory.path(), text).await;
        let code = path(&compiler.code(&cache, &component).await);
        assert!(code.starts_with(&disk.0), "{code:?} is not on the disk");
    }
    let names = names(&disk.0);
    assert!(names.contains(&"notes".into()) && names.contains(&"lost+found".into()), "{names:?}");
}

/// Small disk that is unmounted when this value is dropped.
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
async fn on_a_full_disk_guests_run_and_no_partial_code_remains() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path().join("disk"), "1m");
    let component = of_file(directory.path(), b"(module)").await;
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
async fn the_least_recently_used_code_is_removed_first() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::of(directory.path().join("disk"), "1m");
    let (cache, compiler) = (Cache::new(disk.0.clone()), Compiler::of_bytes(300 << 10));
    let texts: [&[u8]; 3] = [b"(module)", b"(module )", b"(module  )"];
    for (age, text) in [30, 20].into_iter().zip(texts) {
        let code = compiler.code(&cache, &of_file(directory.path(), text).await).await;
        let long_ago = SystemTime::now() - Duration::from_secs(age * 86400);
        code.set_modified(long_ago).unwrap();
    }
    // The older code is used now, so it is not the code to remove.
    compiler.code(&cache, &of_file(directory.path(), texts[0]).await).await;
    compiler.code(&cache, &of_file(directory.path(), texts[2]).await).await;
    assert_eq!(compiler.calls(), 3);
    compiler.code(&cache, &of_file(directory.path(), texts[0]).await).await;
    assert_eq!(compiler.calls(), 3);
    compiler.code(&cache, &of_file(directory.path(), texts[1]).await).await;
    assert_eq!(compiler.calls(), 4);
}
