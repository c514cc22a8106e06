//! `tweedie experiment`

mod options;

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tch::Device;
use tweedie::data::OutputFile;
use tweedie::run::About;
use tweedie::{Error, Result};
use tweedie_papers::experiment::{Context, Entry, Request};
use tweedie_papers::outcome::Provenance;

use crate::console::say;
use crate::progress::Progress;
pub use options::Arguments;
use options::Output;

impl Output {
    /// The device. Makes the directory and finds out now whether it can be written.
    fn prepare(&self) -> Result<Device> {
        let device = self.common.prepare()?;
        std::fs::create_dir_all(&self.out).map_err(Error::io(&self.out))?;
        OutputFile::create(self.out.join("probe.csv"))?;
        Ok(device)
    }
}

pub fn run(Arguments { entry, flags, output }: &Arguments) -> Result<()> {
    let request = Request {
        flags: flags.clone(),
        set: output.set.clone(),
        quick: output.quick,
        seed: output.seed,
    };
    if let Some(part) = &output.memory_of {
        let device = output.common.prepare()?;
        let found = (entry.part)(&(entry.settings)(&request)?, part, device)?;
        println!("{found}");
        return Ok(());
    }
    let settings = (entry.settings)(&request)?;
    let is_new = !output.out.exists();
    let done = carry_out(entry, &settings, output);
    if is_new && done.is_err() {
        // of what was refused before anything was found nothing is left
        let _ = std::fs::remove_dir(&output.out);
    }
    done
}

fn carry_out(entry: &Entry, settings: &Value, output: &Output) -> Result<()> {
    let device = output.prepare()?;
    let started = Instant::now();
    let mut bar = Progress::new(entry.name, 1000, output.common.quiet);
    let outcome = (entry.run)(
        settings,
        &mut Context {
            out: &output.out,
            device,
            progress: &mut |what, fraction| {
                bar.at((fraction * 1000.0) as u64);
                bar.note(what);
            },
            apart: &mut apart,
        },
    )?;
    bar.finish();
    let about = About::now();
    let made = Provenance {
        command: about.command_line(),
        // the day of it
        date: about.date[..10].into(),
        version: about.version,
        seconds: started.elapsed().as_secs_f64(),
        quick: output.quick,
        seed: output.seed,
    };
    let page = output.out.join(format!("{}.md", entry.name));
    let text = outcome.markdown(entry.name, entry.page(), settings, &made)?;
    outcome.write(&output.out)?;
    OutputFile::create(&page)?.finish(text.as_bytes())?;
    say(output.common.quiet, "done");
    let mut all = json!({
        "experiment": entry.name, "page": page, "out": output.out, "quick": output.quick,
        "seed": output.seed, "seconds": made.seconds, "command": made.command,
        "date": made.date, "version": made.version,
    });
    if let (Some(all), Value::Object(found)) = (all.as_object_mut(), outcome.json(settings)) {
        all.extend(found);
    }
    output.common.print(&all, page.display());
    Ok(())
}

/// A part of the experiment, done by this program started anew with the same arguments.
fn apart(part: &str) -> Result<Value> {
    let failed = |problem: String| {
        let problem = format!("the process that does {part} alone {problem}");
        Error::numeric(problem, "give a smaller --network or --batch-size")
    };
    let program = std::env::current_exe().map_err(|e| failed(format!("cannot be started: {e}")))?;
    let child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--memory-of", part])
        .output()
        .map_err(|e| failed(format!("cannot be started: {e}")))?;
    if !child.status.success() {
        let message = String::from_utf8_lossy(&child.stderr).trim().replace('\n', " ");
        return Err(failed(format!("failed ({}): {message}", child.status)));
    }
    serde_json::from_slice(&child.stdout).map_err(|e| failed(format!("gave no answer: {e}")))
}
