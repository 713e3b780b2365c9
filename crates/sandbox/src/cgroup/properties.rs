//! Limits of the OCI spec as properties of systemd (systemd.resource-control(5)), as runc converts them.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use zbus::zvariant::Value;

use super::limits::given;
use super::v2::{swap_alone, weight};

/// Value for no limit.
const INFINITY: u64 = u64::MAX;

/// Default period of the kernel, in microseconds.
const PERIOD: u64 = 100_000;

/// A second, and a percent of it, to which systemd rounds quotas, in microseconds.
const SECOND: u64 = 1_000_000;
const PERCENT: u64 = SECOND / 100;

/// Properties for the limits that systemd knows.
pub fn of(resources: &LinuxResources) -> BTreeMap<&'static str, Value<'static>> {
    let mut properties = BTreeMap::new();
    if let Some(it) = resources.memory() {
        memory(it, &mut properties);
    }
    if let Some(it) = resources.cpu() {
        cpu(it, &mut properties);
    }
    if let Some(limit) = given(resources.pids().as_ref().map(|pids| pids.limit())) {
        properties.insert("TasksMax", Value::from(or_infinity(limit)));
    }
    for (file, value) in resources.unified().iter().flatten() {
        of_file(file, value.trim(), &mut properties);
    }
    properties
}

fn memory(memory: &LinuxMemory, properties: &mut BTreeMap<&'static str, Value<'static>>) {
    let (limit, swap) = (given(memory.limit()), given(memory.swap()));
    let swap = swap_alone(limit, swap).ok().flatten();
    let values =
        [("MemoryMax", limit), ("MemoryLow", given(memory.reservation())), ("MemorySwapMax", swap)];
    for (name, value) in values {
        properties.extend(value.map(|value| (name, Value::from(or_infinity(value)))));
    }
}

fn cpu(cpu: &LinuxCpu, properties: &mut BTreeMap<&'static str, Value<'static>>) {
    let shares = given(cpu.shares()).map(|shares| ("CPUWeight", Value::from(weight(shares))));
    properties.extend(shares);
    let (quota, period) = (given(cpu.quota()), given(cpu.period()));
    properties.extend(period.map(|period| ("CPUQuotaPeriodUSec", Value::from(period))));
    if let Some(quota) = quota {
        let share = share(u64::try_from(quota).ok(), period.unwrap_or(PERIOD));
        properties.insert("CPUQuotaPerSecUSec", Value::from(share));
    }
    for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
        if let Some(mask) = list.as_deref().and_then(mask) {
            properties.insert(name, Value::from(mask));
        }
    }
}

/// Quota in microseconds of each second, rounded up to a percent, so that systemd does not set less than is asked for.
fn share(quota: Option<u64>, period: u64) -> u64 {
    let share = quota.map(|quota| quota.saturating_mul(SECOND) / period.max(1));
    share.map_or(INFINITY, |share| share.div_ceil(PERCENT) * PERCENT)
}

fn of_file(file: &str, value: &str, properties: &mut BTreeMap<&'static str, Value<'static>>) {
    let name = match file {
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        _ => return,
    };
    let number = if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    properties.extend(number.map(|number| (name, Value::from(number))));
}

fn or_infinity(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

/// Bit mask of a list such as `0-3,7`, lowest byte first.
fn mask(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // No machine has more, and a wrong number must not use up the memory.
        if last >= 1 << 16 {
            return None;
        }
        for bit in first..=last {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            mask[bit / 8] |= 1_u8 << (bit % 8);
        }
    }
    (!mask.is_empty()).then_some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: serde_json::Value) -> BTreeMap<&'static str, Value<'static>> {
        super::of(&serde_json::from_value(json).expect("resources"))
    }

    #[test]
    fn each_limit_has_its_property() {
        let properties = of(serde_json::json!({
            "memory": { "limit": 1000, "swap": 1000, "reservation": 100 },
            "cpu": { "shares": 1024, "quota": 50001, "period": 100_000, "cpus": "0-1,9" },
            "pids": { "limit": -1 },
            "unified": { "memory.high": "max", "io.max": "8:0 rbps=1" },
        }));
        let expected = [
            ("AllowedCPUs", Value::from(vec![3_u8, 2])),
            ("CPUQuotaPerSecUSec", Value::from(510_000_u64)),
            ("CPUQuotaPeriodUSec", Value::from(100_000_u64)),
            ("CPUWeight", Value::from(100_u64)),
            ("MemoryHigh", Value::from(u64::MAX)),
            ("MemoryLow", Value::from(100_u64)),
            ("MemoryMax", Value::from(1000_u64)),
            ("MemorySwapMax", Value::from(0_u64)),
            ("TasksMax", Value::from(u64::MAX)),
        ];
        assert_eq!(properties, BTreeMap::from(expected));
    }

    #[test]
    fn a_limit_that_is_not_given_is_not_set() {
        assert_eq!(of(serde_json::json!({ "cpu": { "cpus": "" }, "memory": {} })).len(), 0);
    }
}
