//! Following symbolic links inside a container's file tree, as the kernel will (path_resolution(7)).

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Symbolic links on the way to a file: the kernel's own limit (path_resolution(7)).
pub const LINKS: usize = 40;

/// A path in the container, in bytes: the kernel's own limit (PATH_MAX).
const PATH_BYTES: usize = 4096;

/// Why a path leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped<E> {
    /// Too many links, such as those that lead to each other.
    Links,
    /// A path longer than the kernel takes.
    TooLong,
    /// The tree cannot be read.
    Tree(E),
}

/// The path without links: `link` says where an absolute path, of which all names but the last are no links, leads to if
/// it is one. What does not exist stays.
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
