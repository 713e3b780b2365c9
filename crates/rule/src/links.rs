//! Follows symbolic links inside a container's file tree, as the kernel will (path_resolution(7)).

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Limit of symbolic links on the way to a file. It is the kernel's own (path_resolution(7)).
pub const LINKS: usize = 40;

/// Limit of the length of a path in the container, in bytes. It is the kernel's own (PATH_MAX).
const PATH_BYTES: usize = 4096;

/// Reason why a path cannot be resolved.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped<E> {
    /// There are too many links, for example links to each other.
    Links,
    /// The path is longer than the kernel accepts.
    TooLong,
    /// The tree cannot be read.
    Tree(E),
}

/// Resolves all links in a path. `link` returns the target of an absolute path if that is a link; all its names except
/// the last must be free of links. A path that does not exist stays as it is.
///
/// # Errors
/// See [`Stopped`].
pub fn without_links<E>(
    path: &Path,
    mut link: impl FnMut(&Path) -> Result<Option<PathBuf>, E>,
) -> Result<PathBuf, Stopped<E>> {
    let mut pending: Vec<OsString> = names_reversed(path)?.collect();
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        real.push(name);
        if let Some(target) = link(&real).map_err(Stopped::Tree)? {
            links += 1;
            if links > LINKS {
                return Err(Stopped::Links);
            }
            real = if target.is_absolute() { "/".into() } else { parent(&real) };
            pending.extend(names_reversed(&target)?);
        }
    }
    Ok(real)
}

fn names_reversed<E>(path: &Path) -> Result<impl Iterator<Item = OsString>, Stopped<E>> {
    if path.as_os_str().len() > PATH_BYTES {
        return Err(Stopped::TooLong);
    }
    Ok(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;

    use super::*;

    fn real(path: &str, links: &[(&str, &str)]) -> Result<String, Stopped<Infallible>> {
        let links: HashMap<_, _> = links.iter().map(|(at, to)| (Path::new(at), *to)).collect();
        let link = |path: &Path| Ok(links.get(path).map(PathBuf::from));
        without_links(Path::new(path), link).map(|it| it.display().to_string())
    }

    #[test]
    fn a_link_leads_into_the_container_wherever_it_points() {
        let links = [("/app", "opt/app"), ("/opt", "/usr/opt"), ("/bin/up", "../../../etc/x")];
        assert_eq!(real("/app/a.wasm", &links).unwrap(), "/usr/opt/app/a.wasm");
        assert_eq!(real("bin/up", &links).unwrap(), "/etc/x");
        assert_eq!(real("/none/../b/./c", &links).unwrap(), "/b/c");
    }

    #[test]
    fn links_that_lead_to_each_other_and_paths_that_are_too_long_end() {
        assert_eq!(real("/a", &[("/a", "b"), ("/b", "a")]), Err(Stopped::Links));
        assert_eq!(real(&format!("/{}", "a/".repeat(4000)), &[]), Err(Stopped::TooLong));
    }
}
