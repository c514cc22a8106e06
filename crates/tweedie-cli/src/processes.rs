//! Several processes of the program that share one work: `--processes N` starts them on this
//! machine, a launcher such as `torchrun` has started them. What one of them that is not the leader
//! prints and writes is dropped, but for its errors.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use tch::Device;
use tweedie::process_group::{Member, ProcessGroup};
use tweedie::{Error, Result};

use crate::common::Common;
use crate::interrupt::{end, exit_now};
use crate::terminal::{self, tell};

/// How work is shared.
#[derive(Args, Clone, Debug)]
pub struct Processes {
    /// Start so many processes of the program on this machine, which share the work: a training
    /// splits the rows of every batch over them, samples and scores are split by batches. With
    /// --device cuda each has a GPU of its own. Leave it out under torchrun --no-python tweedie …,
    /// which starts them itself, on one machine or several [default: 1]
    #[arg(long, value_name = "N", help_heading = HEADING)]
    processes: Option<usize>,
    /// Seconds after which a process that does not answer the others is given up, and all end
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, help_heading = HEADING)]
    timeout: f64,
}

const HEADING: &str = "Several processes";
/// Processes of one machine, at most.
const MOST: usize = 1024;
/// Set in processes that this program has started: their standard input ends with it.
const STARTED: &str = "TWEEDIE_STARTED";
/// What processes are given to end after the leader.
const GRACE: Duration = Duration::from_secs(2);
/// How often processes that were started are looked at.
const LOOK: Duration = Duration::from_millis(20);

impl Processes {
    /// Sets up the process as requested, together with the others; the device to compute on, and
    /// the group. A process that was to start others does so, and ends with them.
    pub fn prepare(&self, common: &Common) -> Result<(Device, ProcessGroup)> {
        if let Some(count) = self.processes {
            Error::check_count("--processes", count, MOST)?;
        }
        if !(self.timeout >= 1.0 && self.timeout <= 1e6) {
            let remedy = "give seconds from 1 to a million";
            return Err(Error::config("--timeout", self.timeout.to_string(), remedy));
        }
        let timeout = Duration::from_secs_f64(self.timeout);
        // not once it has met the others
        common.let_threads_sleep();
        let member = Member::of_environment()?;
        let several = member.is_some() || self.processes.is_some_and(|count| count > 1);
        if several && reads_standard_input() {
            let problem = "standard input is read by one process, and there are several";
            return Err(Error::config("--processes", problem, "give a file, or leave it out"));
        }
        match (self.processes, &member) {
            (Some(count), None) if count > 1 && std::env::var_os("WORLD_SIZE").is_none() => {
                end(launch(count, timeout, common.threads)?)
            }
            (Some(count), member) => {
                let size = member.as_ref().map_or(1, |member| member.size);
                if count != size {
                    let problem = format!("{count}, where a launcher has started {size}");
                    let remedy = "leave it out under a launcher";
                    return Err(Error::config("--processes", problem, remedy));
                }
            }
            (None, _) => (),
        }
        let Some(member) = member else {
            return Ok((common.prepare_on(&common.device)?, ProcessGroup::alone()));
        };
        if std::env::var_os(STARTED).is_some() {
            end_with_the_starter();
        }
        if member.rank > 0 {
            terminal::follow(member.rank);
        }
        let group = ProcessGroup::join(&member, timeout)?;
        let device = group.reporting(|| common.prepare_on(&group.device_name(&common.device)))?;
        Ok((device, group))
    }
}

/// Whether an argument asks for standard input: a `-` that no output goes to.
fn reads_standard_input() -> bool {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_input = |pair: &[std::ffi::OsString]| {
        pair[1] == "-" && pair[0] != "-o" && pair[0] != "--out" || pair[1] == "--data=-"
    };
    arguments.windows(2).any(is_input)
}

/// Where a process that is not the leader puts what it has found, until it ends.
static DISCARDED: Mutex<Option<tempfile::TempDir>> = Mutex::new(None);

/// Removes what processes that are not the leader have written.
pub fn discard_outputs() {
    drop(DISCARDED.lock().expect("whoever held it is done").take());
}

/// The path that a result goes to: `path` itself, or in a process that is not the leader a file of
/// that name in a directory that is thrown away.
pub fn output_of(group: &ProcessGroup, path: &Path) -> Result<PathBuf> {
    if group.is_leader() {
        return Ok(path.to_owned());
    }
    let mut discarded = DISCARDED.lock().expect("whoever held it is done");
    let dir = match discarded.take() {
        Some(dir) => dir,
        None => tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?,
    };
    let dir = discarded.insert(dir);
    let name = match path.file_name() {
        // CSV, on standard output
        _ if path.as_os_str() == "-" => PathBuf::from("rows.csv"),
        Some(name) => PathBuf::from(name),
        None => PathBuf::new(),
    };
    // a slash at the end says that it is a folder
    match path.as_os_str().to_string_lossy().ends_with(std::path::MAIN_SEPARATOR) || path.is_dir() {
        true => Ok(dir.path().join(name).join("")),
        false => Ok(dir.path().join(name)),
    }
}

/// Ends this process once the one that started it has ended, however that was.
fn end_with_the_starter() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        exit_now(1)
    });
}

/// A process that was started.
struct Started {
    child: Child,
    /// The last line that it has printed on standard error, where it is not the leader.
    said: Option<JoinHandle<Option<String>>>,
    ended: Option<ExitStatus>,
}

/// Starts `count` processes of this program with its arguments, and waits for them: the exit code.
/// Signals to this process are passed on.
fn launch(count: usize, timeout: Duration, threads: Option<usize>) -> Result<u8> {
    let program = std::env::current_exe().map_err(Error::io("tweedie"))?;
    let port = Member::free_port()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = threads.unwrap_or((cores / count).max(1)).to_string();
    let mut all = Vec::new();
    for rank in 0..count {
        let member = Member { rank, size: count, local_rank: rank, port, ..Member::default() };
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).envs(member.environment());
        command.env(STARTED, "1").stdin(Stdio::piped());
        for (name, value) in [
            ("OMP_NUM_THREADS", &*each),
            ("RAYON_NUM_THREADS", &*each),
            ("GOMP_SPINCOUNT", "1000"),
            // what fails is said by the program
            ("TORCH_CPP_LOG_LEVEL", "FATAL"),
        ] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        if rank > 0 {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // by which a Python knows its environment
            if let Some(name) = std::env::args_os().next() {
                command.arg0(name);
            }
            // signals reach them once, by way of this process
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(Error::io(&program))?;
        let said = child.stderr.take().map(|lines| {
            std::thread::spawn(|| BufReader::new(lines).lines().map_while(|l| l.ok()).last())
        });
        all.push(Started { child, said, ended: None });
    }
    let all = ALL.get_or_init(|| Mutex::new(all));
    // where the command has no handler of its own, which calls the same; without one the signal
    // ends this process, and the others with it
    let _ = ctrlc::set_handler(|| {
        interrupt_all();
    });
    Ok(wait(all, timeout))
}

/// The processes that were started.
static ALL: OnceLock<Mutex<Vec<Started>>> = OnceLock::new();

/// Asks all processes that were started to stop; whether there are any.
pub fn interrupt_all() -> bool {
    let Some(all) = ALL.get() else { return false };
    let all = all.lock().expect("whoever held it is done");
    all.iter().filter(|one| one.ended.is_none()).for_each(|one| interrupt(&one.child));
    true
}

/// Asks a process to stop.
fn interrupt(child: &Child) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process};
        // one that has just ended needs no signal
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
    }
    #[cfg(not(unix))]
    let _ = child;
}

/// Waits until all processes have ended; once one of them has failed the others are given `timeout`
/// to notice, and once the leader has ended [`GRACE`]. The exit code.
fn wait(all: &Mutex<Vec<Started>>, timeout: Duration) -> u8 {
    let mut failed: Option<(usize, Instant)> = None;
    loop {
        let mut all = all.lock().expect("whoever held it is done");
        for (rank, one) in all.iter_mut().enumerate().filter(|(_, one)| one.ended.is_none()) {
            one.ended = one.child.try_wait().ok().flatten();
            if one.ended.is_some_and(|status| !status.success()) {
                failed.get_or_insert((rank, Instant::now()));
            }
        }
        if all.iter().all(|one| one.ended.is_some()) {
            return end_of(&mut all, failed.map(|(rank, _)| rank));
        }
        let grace = if all[0].ended.is_some() { GRACE } else { timeout };
        if failed.is_some_and(|(_, at)| at.elapsed() > grace) {
            all.iter_mut().filter(|one| one.ended.is_none()).for_each(|one| {
                let _ = one.child.kill();
            });
        }
        drop(all);
        std::thread::sleep(LOOK);
    }
}

/// The exit code of all processes, of which `failed` did so first: the leader's, where it has ended
/// by itself. What the leader has not said is said here.
fn end_of(all: &mut [Started], failed: Option<usize>) -> u8 {
    let Some(first) = failed else { return 0 };
    let code = |one: &Started| one.ended.and_then(|status| status.code());
    match code(&all[0]) {
        Some(code) if code != 0 => return u8::try_from(code).unwrap_or(1),
        _ => (),
    }
    let one = &mut all[first];
    let ended = one.ended.map_or_else(String::new, |status| status.to_string());
    let said = one.said.take().and_then(|thread| thread.join().ok().flatten());
    let said = said.map_or_else(String::new, |line| format!(": {line}"));
    tell(&format!(
        "error: rank {first} failed ({ended}){said}; all processes ended with it. A training goes \
         on from its last checkpoint with --resume"
    ));
    1
}
