//! Formats of a cgroup's files (kernel, cgroup-v2.rst, "Format"; v1 has the same).

use std::collections::HashMap;

use sandbox::cgroup::Cgroup;

/// Files of one controller.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub cgroup: &'a Cgroup,
    /// Name of the controller, for its hierarchy on v1.
    pub controller: &'a str,
}

/// Lines with a name and a number.
pub struct Table(HashMap<String, u64>);

/// A line with a device, such as `8:16 rbytes=1 wbytes=2` of v2, or `8:16 Read 1` of v1.
pub struct Device {
    pub major: u64,
    pub minor: u64,
    /// Rest of the line.
    pub rest: String,
}

impl Files<'_> {
    pub fn table(self, file: &str) -> Table {
        let line = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.trim().parse().ok()?))
        };
        Table(self.text(file).lines().filter_map(line).collect())
    }

    /// Numbers of a file; `max`, for no limit, is the largest number.
    pub fn numbers(self, file: &str) -> Vec<u64> {
        let number = |word: &str| if word == "max" { Some(u64::MAX) } else { word.parse().ok() };
        self.text(file).split_whitespace().filter_map(number).collect()
    }

    pub fn number(self, file: &str) -> u64 {
        self.numbers(file).first().copied().unwrap_or_default()
    }

    /// Devices of a file, without lines that have totals.
    pub fn devices(self, file: &str) -> Vec<Device> {
        let line = |line: &str| {
            let (device, rest) = line.split_once(' ')?;
            let (major, minor) = device.split_once(':')?;
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(Device { major, minor, rest: rest.to_owned() })
        };
        self.text(file).lines().filter_map(line).collect()
    }

    /// Sizes of huge pages, such as `2MB`, each once.
    pub fn page_sizes(self) -> Vec<String> {
        let names = self.cgroup.files(self.controller);
        let size = |name: &String| {
            let mut parts = name.strip_prefix("hugetlb.")?.split('.');
            let (size, what) = (parts.next()?, parts.next()?);
            // Each size has one such file; `rsvd` is for reservations.
            matches!(what, "current" | "usage_in_bytes").then(|| size.to_owned())
        };
        let mut sizes: Vec<String> = names.iter().filter_map(size).collect();
        sizes.sort();
        sizes
    }

    pub fn text(self, file: &str) -> String {
        self.cgroup.read(self.controller, file).unwrap_or_default()
    }
}

impl Table {
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}
