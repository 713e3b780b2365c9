//! Measures memory and threads of a Pod's processes, and the duration of a start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tests::{Container, RunningContainer, RunningPod, command, processes};

/// Time after which the shim has no thread left from earlier work.
pub const SETTLES: Duration = Duration::from_secs(2);

/// Prints a line for the shim and for each process below it.
pub fn print_processes(
    pod: &RunningPod<'_>,
    containers: &[(&str, &RunningContainer<'_>)],
) -> Result<()> {
    let shim = pod.shim()?;
    let mut roles = vec![("shim", shim.pid), ("pause", pod.process()?.pid)];
    for (role, container) in containers {
        roles.push((role, container.process()?.pid));
    }
    println!("  {:<18} {:>7} {:>9} {:>9}", "process", "threads", "RSS KiB", "PSS KiB");
    for process in processes::family(&shim) {
        let role = roles.iter().find(|(_, pid)| *pid == process.pid);
        let role = role.map_or(process.name.as_str(), |(role, _)| role);
        let (memory, threads) = (process.memory()?, process.threads()?);
        println!("  {role:<18} {threads:>7} {:>9} {:>9}", memory.rss, memory.pss);
    }
    Ok(())
}

/// Runs the container and prints the duration of its creation, and the time from the call of StartContainer until
/// containerd wrote its first line.
pub fn print_start(pod: &RunningPod<'_>, container: &Container, what: &str) -> Result<()> {
    let before_create = Instant::now();
    let container = pod.create(container)?;
    let create = before_create.elapsed().as_secs_f64();
    let before_start = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    container.start()?;
    let exit = container.wait()?;
    let logs = container.logs()?;
    ensure!(exit.code == 0, "{what}: {exit:?}, {logs:?}");
    let first = logs.first_written.context("it wrote nothing")?;
    let start = seconds(&first)? - before_start;
    println!(
        "  {what:<36} CreateContainer {:>6.1} ms, StartContainer to first line {:>6.1} ms",
        create * 1e3,
        start * 1e3,
    );
    Ok(())
}

/// Parses a time of RFC 3339 as seconds since 1970.
fn seconds(time: &str) -> Result<f64> {
    let text = command::run("date", [&format!("--date={time}"), "+%s.%N"])?.success()?.stdout;
    text.trim().parse().with_context(|| format!("date of {time}: {text}"))
}
