//! Devices that a container may open: v1's controller `devices` (kernel, cgroup-v1/devices.rst).
//!
//! v2 has a BPF filter instead. A guest does not need one, because it has no `CAP_MKNOD`, and because all its mounts
//! are `nodev` except for its own `/dev`, in which only this runtime makes nodes.

use oci_spec::runtime::LinuxDeviceCgroup;

use super::Cgroup;
use super::limits::limit;
use crate::Error;

/// Rules that runc sets for every container (`AllowedDevices`): make nodes, which also needs `CAP_MKNOD`, and open the null,
/// zero, full, random and terminal devices.
const ALLOWED: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

impl Cgroup {
    /// Sets the rules of the OCI spec ("Allowed Device list") in their order, then those of every container.
    pub(super) fn limit_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
        if self.is_v2() || !self.has("devices", "devices.allow") {
            return Ok(());
        }
        for rule in rules {
            let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
            self.set("devices", file, rule)?;
        }
        // The kernel reads one rule at a time, so each needs its own write.
        ALLOWED.iter().try_for_each(|rule| {
            self.write("devices", "devices.allow", rule)
                .map_err(|error| limit("devices.allow", rule, error.to_string()))
        })
    }
}
