//! Interprets `process.args[0]`, which is `path`, `path#export` or `#export`, and finds the paths that it may mean.

use std::path::{Path, PathBuf};

/// A container's first process, from its spec.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// `process.args` of the OCI runtime spec.
    pub args: &'a [String],
    /// `process.cwd`.
    pub cwd: &'a Path,
    /// `process.env`, each `KEY=VALUE`.
    pub env: &'a [String],
}

/// A parsed entrypoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrypoint<'a> {
    /// A path or a bare name. Empty for the image's layers.
    pub path: &'a str,
    /// The export to call.
    pub export: Option<&'a str>,
}

impl<'a> Entrypoint<'a> {
    /// Splits at the first `#`, because the name of an export may itself have one (`a:b/c@1.0.0#run`). An empty export
    /// counts as none.
    pub fn parse(arg: &'a str) -> Entrypoint<'a> {
        match arg.split_once('#') {
            Some((path, export)) => {
                Entrypoint { path, export: Some(export).filter(|it| !it.is_empty()) }
            }
            None => Entrypoint::whole(arg),
        }
    }

    /// Takes the whole argument as the path, because Linux programs may have a `#` in their name.
    pub fn whole(arg: &'a str) -> Entrypoint<'a> {
        Entrypoint { path: arg, export: None }
    }

    /// Returns whether the name suggests that the user meant a guest.
    pub fn looks_like_wasm(&self) -> bool {
        self.export.is_some() || has_wasm_name(self.path)
    }
}

impl<'a> Process<'a> {
    /// Returns the first argument, or an empty string.
    pub fn name(&self) -> &'a str {
        self.args.first().map_or("", String::as_str)
    }

    /// Returns the absolute paths in the container that the entrypoint may mean, the likeliest first. For a bare name
    /// these are in the working directory and in every directory of PATH. Otherwise there is only the path itself.
    pub fn candidates(&self, entrypoint: &Entrypoint<'_>) -> Vec<PathBuf> {
        if entrypoint.path.is_empty() {
            return Vec::new();
        }
        let from = |directory: &Path| Path::new("/").join(directory).join(entrypoint.path);
        let mut candidates = vec![from(self.cwd)];
        if !entrypoint.path.contains('/') {
            let directories = self.search_path().filter(|directory| !directory.is_empty());
            candidates.extend(directories.map(|directory| from(Path::new(directory))));
        }
        candidates
    }

    /// Describes where [`Process::candidates`] were looked for.
    pub fn looked(&self, entrypoint: &Entrypoint<'_>) -> String {
        let cwd = self.cwd.display();
        match entrypoint.path {
            "" => "it names no file".to_owned(),
            path if path.starts_with('/') => format!("the container has no file {path}"),
            path if path.contains('/') => format!("the container has no file {path} from {cwd}"),
            path => {
                let directories: Vec<_> = self.search_path().collect();
                format!("there is no {path} in {cwd} nor in PATH ({})", directories.join(":"))
            }
        }
    }

    /// Returns the directories of PATH.
    pub fn search_path(&self) -> impl Iterator<Item = &'a str> {
        let path = self.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        path.unwrap_or_default().split(':')
    }
}

/// Returns whether the ending of a name says wasm, its text form, or code compiled from it.
pub fn has_wasm_name(path: &str) -> bool {
    [".wasm", ".wat", ".cwasm"].iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(path: &str, cwd: &str, env: &[&str]) -> Vec<String> {
        let env: Vec<String> = env.iter().map(|it| (*it).to_owned()).collect();
        let process = Process { args: &[], cwd: Path::new(cwd), env: &env };
        let found = process.candidates(&Entrypoint::parse(path));
        found.iter().map(|it| it.display().to_string()).collect()
    }

    #[test]
    fn an_export_follows_the_first_hash() {
        for (arg, path, export) in [
            ("/app.wasm", "/app.wasm", None),
            ("/app.wasm#run", "/app.wasm", Some("run")),
            ("#run", "", Some("run")),
            ("app.wasm#a:b/c@1.0.0#run", "app.wasm", Some("a:b/c@1.0.0#run")),
            ("app.wasm#", "app.wasm", None),
            ("", "", None),
        ] {
            assert_eq!(Entrypoint::parse(arg), Entrypoint { path, export }, "{arg}");
        }
    }

    #[test]
    fn a_bare_name_is_looked_for_in_the_working_directory_and_then_in_path() {
        let path = ["PATH=/ignored", "HOME=/", "PATH=/usr/bin::bin"];
        assert_eq!(candidates("app", "/work", &path), ["/work/app", "/usr/bin/app", "/bin/app"]);
        assert_eq!(candidates("app", "/", &[]), ["/app"]);
    }

    #[test]
    fn a_path_with_a_slash_is_not_looked_for_in_path() {
        assert_eq!(candidates("./app", "/work", &["PATH=/bin"]), ["/work/./app"]);
        assert_eq!(candidates("/x/app", "/work", &["PATH=/bin"]), ["/x/app"]);
        assert_eq!(candidates("#run", "/work", &["PATH=/bin"]), [""; 0]);
    }
}
