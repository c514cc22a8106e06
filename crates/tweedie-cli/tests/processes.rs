//! Several processes of the program: the same results, and an end in one line when one of them
//! dies, hangs or is stopped.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tweedie::process_group::Member;

/// The program, in `dir`.
fn tweedie(dir: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tweedie"));
    program.current_dir(dir);
    program
}

/// A table of rows of two columns.
fn table(dir: &Path) {
    let noise = |k: usize| (k as f64 * 0.618_034).fract();
    let line = |k: usize| format!("{},{}\n", noise(k), noise(k).powi(2) + 0.3 * noise(5 * k));
    let text: String = (0..500).map(line).collect();
    std::fs::write(dir.join("table.csv"), format!("a,b\n{text}")).unwrap();
}

const TRAIN: [&str; 12] = [
    "train",
    "--data",
    "table.csv",
    "--batch-size",
    "32",
    "--checkpoint-every",
    "20",
    "--set",
    "model.network.width=16",
    "--set",
    "model.network.depth=2",
    "--quiet",
];

/// A training over three processes that would take long, once it has a checkpoint of some steps.
fn begun(dir: &Path, timeout: &str) -> Child {
    let child = tweedie(dir)
        .args(TRAIN)
        .args(["--out", "run", "--iterations", "1000000", "--processes", "3", "--timeout", timeout])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(dir.join("run/status.json")).is_ok_and(|status| {
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["iteration"].as_u64().unwrap() > 0
    }) {
        assert!(begun.elapsed() < Duration::from_secs(100), "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The processes that `parent` has started, by rank.
fn ranks(parent: &Child) -> Vec<u32> {
    let id = parent.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let mut ranks: Vec<(usize, u32)> = children
        .split_whitespace()
        .map(|child| {
            let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap();
            let rank = environment.split(|&b| b == 0).find_map(|variable| {
                std::str::from_utf8(variable).ok()?.strip_prefix("RANK=")?.parse().ok()
            });
            (rank.unwrap(), child.parse().unwrap())
        })
        .collect();
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, child)| child).collect()
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// The exit code, what was said on standard error, and the seconds that it took from now.
fn end(child: Child) -> (Option<i32>, String, f64) {
    let begun = Instant::now();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text, begun.elapsed().as_secs_f64())
}

/// Goes on with the run for a few steps by `processes` processes.
fn goes_on(dir: &Path, processes: &str) {
    let status = std::fs::read_to_string(dir.join("run/status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let more = (status["iteration"].as_u64().unwrap() + 5).to_string();
    let resume = ["train", "--out", "run", "--resume", "--quiet", "--iterations", &more];
    let output = tweedie(dir).args(resume).args(["--processes", processes]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn scores_and_samples_have_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    table(dir);
    let train = [&TRAIN[..], &["--out", "run", "--iterations", "30", "--processes", "2"]].concat();
    let output = tweedie(dir).args(train).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "run\n", "one process speaks");
    for (name, arguments) in [
        ("scores", &["score", "run", "table.csv", "--steps", "10", "--batch-size", "70"][..]),
        ("ode", &["score", "run", "table.csv", "--estimator", "ode", "--batch-size", "200"]),
        ("samples", &["sample", "run", "-n", "300", "--steps", "5", "--batch-size", "64"]),
    ] {
        let written = |processes: &str| {
            let out = format!("{name}-{processes}.csv");
            let output = tweedie(dir)
                .args(arguments)
                .args(["--out", &out, "--processes", processes, "--quiet"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            (std::fs::read(dir.join(out)).unwrap(), output.stdout)
        };
        let alone = written("1");
        assert!(alone.0.len() > 1000);
        assert!(written("3") == alone, "{name}");
    }
    let evaluate = |processes: &str| {
        let evaluate = ["evaluate", "run", "--json", "--steps", "5", "--processes", processes];
        let output = tweedie(dir).args(evaluate).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(evaluate("2"), evaluate("1"));
}

#[test]
fn a_rank_that_dies_ends_all_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    table(dir);
    for (victim, processes) in [(2, "1"), (0, "2")] {
        let _ = std::fs::remove_dir_all(dir.join("run"));
        let child = begun(dir, "20");
        let ranks = ranks(&child);
        signal("-KILL", ranks[victim]);
        let (code, said, seconds) = end(child);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.starts_with(&format!("error: rank {victim}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(seconds < 20.0, "{seconds} s");
        let gone = |rank: &u32| !Path::new(&format!("/proc/{rank}")).exists();
        assert!(ranks.iter().all(gone), "a process is left");
        goes_on(dir, processes);
    }
}

#[test]
fn a_rank_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path());
    let child = begun(dir.path(), "8");
    let ranks = ranks(&child);
    signal("-STOP", ranks[1]);
    let (code, said, seconds) = end(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: rank 1: it has died or hangs"), "{said}");
    assert!(seconds < 8.0 + 5.0, "{seconds} s");
    assert!(!Path::new(&format!("/proc/{}", ranks[1])).exists(), "it is left");
    goes_on(dir.path(), "3");
}

/// A request to stop is passed on, and obeyed by all at the same step.
#[test]
fn all_stop_together() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path());
    let child = begun(dir.path(), "60");
    signal("-TERM", child.id());
    let (code, said, _) = end(child);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("everything is saved: go on with"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    goes_on(dir.path(), "2");
}

/// Whatever becomes of the process that started them, none is left.
#[test]
fn processes_end_with_the_one_that_started_them() {
    let dir = tempfile::tempdir().unwrap();
    table(dir.path());
    let child = begun(dir.path(), "60");
    let ranks = ranks(&child);
    signal("-KILL", child.id());
    end(child);
    let begun = Instant::now();
    while ranks.iter().any(|rank| {
        let state = std::fs::read_to_string(format!("/proc/{rank}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }) {
        assert!(begun.elapsed() < Duration::from_secs(30), "a process is left");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// As a launcher starts them: by their environment alone, and none of the program's own settings.
#[test]
fn a_launchers_environment_suffices() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    table(dir);
    let train = [&TRAIN[..], &["--out", "run", "--iterations", "10"]].concat();
    assert!(tweedie(dir).args(train).status().unwrap().success());
    let port = Member::free_port().unwrap().to_string();
    let start = |rank: &str| {
        let mut program = tweedie(dir);
        program.env_remove("GOMP_SPINCOUNT").env("WORLD_SIZE", "2").env("RANK", rank);
        program.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port);
        program.args(["score", "run", "table.csv", "--steps", "5", "--batch-size", "90"]);
        program.args(["-o", "-", "--quiet"]);
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let (leader, follower) = (start("0"), start("1"));
    let [leader, follower] = [leader, follower].map(|child| child.wait_with_output().unwrap());
    assert!(leader.status.success() && follower.status.success(), "{leader:?} {follower:?}");
    assert_eq!(String::from_utf8(leader.stdout).unwrap().lines().count(), 501);
    assert_eq!(follower.stdout, b"", "the rows come once");
}

/// A mistake is told once, by the process that speaks.
#[test]
fn mistakes_are_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    table(dir);
    for (arguments, expected) in [
        (&["train", "--data", "none.csv", "--out", "run"][..], "error: none.csv: "),
        (
            &["train", "--data", "table.csv", "--out", "run", "--batch-size", "1", "--quiet"],
            "error: --batch-size: 1 rows at a time for 2 processes; ",
        ),
        (&["sample", "none", "-n", "5", "--out", "a.csv"], "error: none: is not a run directory"),
        (&["score", "none", "table.csv", "--timeout", "0"], "error: --timeout: 0; "),
        (&["score", "run", "-"], "error: --processes: standard input is read by one process"),
    ] {
        let output = tweedie(dir).args(arguments).args(["--processes", "2"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
    }
    let mut alone = tweedie(dir);
    alone.env("WORLD_SIZE", "2").args(["sample", "run", "-n", "5", "--out", "a.csv"]);
    let said = String::from_utf8(alone.output().unwrap().stderr).unwrap();
    assert!(said.starts_with("error: RANK: not set, and WORLD_SIZE is 2; "), "{said}");
}
