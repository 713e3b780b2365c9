//! Names of systemd's cgroups: `slice:prefix:name` in the OCI spec stands for the unit `prefix-name.scope`.

use std::path::{Path, PathBuf};

/// A scope of systemd, `slice:prefix:name`.
pub struct Scope<'a> {
    slice: &'a str,
    prefix: &'a str,
    name: &'a str,
}

impl<'a> Scope<'a> {
    /// Parses the name of a scope.
    pub fn parse(cgroups_path: &'a Path) -> Option<Scope<'a>> {
        let parts: Vec<_> = cgroups_path.to_str()?.split(':').collect();
        let [slice, prefix, name] = parts[..] else { return None };
        let is_one = slice.ends_with(".slice") && !name.is_empty() && !name.contains('/');
        is_one.then_some(Scope { slice, prefix, name })
    }

    /// Slice that it is in.
    pub fn slice(&self) -> &'a str {
        self.slice
    }

    /// Name of the container in it.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Path of its cgroup. `a-b.slice` is in `a.slice` (systemd.slice(5)), and `-.slice` the root.
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::new();
        let name = self.slice.trim_end_matches(".slice");
        let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
        for end in ends.filter(|end| *end > 0 && name != "-") {
            path.push(format!("{}.slice", &name[..end]));
        }
        path.join(format!("{}-{}.scope", self.prefix, self.name))
    }
}
