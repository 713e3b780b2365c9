//! Limits of block devices, and on v1 the marks of network traffic.

use oci_spec::runtime::{LinuxBlockIo, LinuxNetwork, LinuxThrottleDevice};

use super::Cgroup;
use super::limits::{given, limit};
use crate::Error;

/// Range of weights of v1.
const WEIGHTS_OF_V1: std::ops::RangeInclusive<u64> = 10..=1000;

impl Cgroup {
    /// Sets weights and rates (OCI runtime spec, "Block IO").
    pub(super) fn limit_io(&self, io: &LinuxBlockIo) -> Result<(), Error> {
        if given(io.leaf_weight()).is_some() {
            return Err(limit("leafWeight", "set", "Linux 5.0 and later do not have it"));
        }
        self.weigh(io)?;
        let rates = [
            (io.throttle_read_bps_device(), "read_bps", "rbps"),
            (io.throttle_write_bps_device(), "write_bps", "wbps"),
            (io.throttle_read_iops_device(), "read_iops", "riops"),
            (io.throttle_write_iops_device(), "write_iops", "wiops"),
        ];
        for (devices, of_v1, of_v2) in rates {
            for device in devices.iter().flatten() {
                self.throttle(device, of_v1, of_v2)?;
            }
        }
        Ok(())
    }

    fn weigh(&self, io: &LinuxBlockIo) -> Result<(), Error> {
        let bfq = if self.is_v2() { "io.bfq.weight" } else { "blkio.bfq.weight" };
        if let Some(weight) = given(io.weight()) {
            match self.is_v2() {
                _ if self.has("blkio", bfq) => self.set("blkio", bfq, weight)?,
                true => self.set("blkio", "io.weight", of_v2(weight))?,
                false => self.set("blkio", "blkio.weight", weight)?,
            }
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = given(device.weight()) {
                let value = format!("{}:{} {weight}", device.major(), device.minor());
                let by_bfq = self.is_v2() || self.has("blkio", bfq);
                let file = if by_bfq { bfq } else { "blkio.weight_device" };
                self.set("blkio", file, value)?;
            }
        }
        Ok(())
    }

    fn throttle(&self, at: &LinuxThrottleDevice, of_v1: &str, of_v2: &str) -> Result<(), Error> {
        let (major, minor, rate) = (at.major(), at.minor(), at.rate());
        match self.is_v2() {
            true => self.set("blkio", "io.max", format!("{major}:{minor} {of_v2}={rate}")),
            false => {
                let file = format!("blkio.throttle.{of_v1}_device");
                self.set("blkio", &file, format!("{major}:{minor} {rate}"))
            }
        }
    }

    /// Sets the class and the priorities of v1's network controllers.
    pub(super) fn limit_network(&self, network: &LinuxNetwork) -> Result<(), Error> {
        if let Some(class) = given(network.class_id()) {
            self.set("net_cls", "net_cls.classid", class)?;
        }
        network.priorities().iter().flatten().try_for_each(|priority| {
            self.set("net_prio", "net_prio.ifpriomap", priority.to_string().trim())
        })
    }
}

/// Converts a weight of v1 to `io.weight`, as runc does: 10 to 1, 1000 to 10000.
fn of_v2(weight: u16) -> u64 {
    let weight = u64::from(weight).clamp(*WEIGHTS_OF_V1.start(), *WEIGHTS_OF_V1.end());
    1 + (weight - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn host(is_v2: bool, files: &[&str]) -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary directory");
        let hierarchy = if is_v2 { "." } else { "blkio" };
        let directory = host.path().join(hierarchy).join("pods/c1");
        fs::create_dir_all(&directory).expect("a cgroup");
        if is_v2 {
            fs::write(host.path().join("cgroup.controllers"), "io").expect("v2");
        }
        for file in files {
            fs::write(directory.join(file), "").expect("a file of it");
        }
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        (host, cgroup.expect("a cgroup"))
    }

    fn io() -> LinuxBlockIo {
        let rate = json!([{ "major": 8, "minor": 0, "rate": 1024 }]);
        serde_json::from_value(json!({ "weight": 505, "throttleReadBpsDevice": rate }))
            .expect("limits")
    }

    #[test]
    fn weight_and_rates_are_written_in_the_format_of_each_version() {
        let (_host, cgroup) = host(false, &["blkio.weight", "blkio.throttle.read_bps_device"]);
        cgroup.limit_io(&io()).expect("set");
        assert_eq!(cgroup.read("blkio", "blkio.weight").as_deref(), Some("505"));
        let rate = cgroup.read("blkio", "blkio.throttle.read_bps_device");
        assert_eq!(rate.as_deref(), Some("8:0 1024"));
        let (_host, cgroup) = host(true, &["io.weight", "io.max"]);
        cgroup.limit_io(&io()).expect("set");
        assert_eq!(cgroup.read("blkio", "io.weight").as_deref(), Some("5000"));
        assert_eq!(cgroup.read("blkio", "io.max").as_deref(), Some("8:0 rbps=1024"));
    }
}
