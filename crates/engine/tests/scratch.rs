//! scratch
use engine::*;
use std::io::{Read, Write};
use std::time::Instant;
#[test]
#[ignore]
fn guest() {
    let Ok(path) = std::env::var("SCRATCH") else { return };
    let t = Instant::now();
    let runtime = Runtime::new().unwrap();
    eprintln!("runtime {:?}", t.elapsed());
    let args: Vec<String> =
        std::env::var("SARGS").unwrap_or("app".into()).split(' ').map(|s| s.to_owned()).collect();
    let cw = std::env::var("CW").unwrap();
    if let Ok(code) = std::fs::File::open(&cw) {
        let world: World =
            serde_json::from_str(&std::fs::read_to_string(format!("{cw}.world")).unwrap()).unwrap();
        let plan = Plan::new(world, None, args, &[], "/".into()).unwrap();
        let t = Instant::now();
        let n = std::fs::read_dir("/proc/self/task").unwrap().count();
        let code = runtime.run(&plan, code);
        eprintln!(
            "run {:?} tasks before {n} after {} rss {}",
            t.elapsed(),
            std::fs::read_dir("/proc/self/task").unwrap().count(),
            std::fs::read_to_string("/proc/self/status")
                .unwrap()
                .lines()
                .filter(|l| l.starts_with("Vm") || l.starts_with("Rss"))
                .collect::<Vec<_>>()
                .join(" ")
        );
        if let Ok(maps) = std::fs::read_to_string("/proc/self/maps") {
            for l in maps.lines().filter(|l| l.contains("cw")) {
                eprintln!("{l}");
            }
        }
        std::process::exit(code.into());
    }
    let t = Instant::now();
    let mut b = vec![];
    std::fs::File::open(&path).unwrap().read_to_end(&mut b).unwrap();
    let c = runtime.compile(&[b], None).unwrap();
    eprintln!("compile {:?} {:?} {}", t.elapsed(), c.world, c.code.len());
    std::fs::File::create(&cw).unwrap().write_all(&c.code).unwrap();
    std::fs::write(format!("{cw}.world"), serde_json::to_string(&c.world).unwrap()).unwrap();
}
