//! `tweedie experiment`: the options of every experiment are made of the tables of flags in
//! [`tweedie_papers::ALL`].

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use serde_json::{Value, json};
use tch::Device;
use tweedie::data::OutputFile;
use tweedie::run::About;
use tweedie::{Error, Result};
use tweedie_papers::experiment::{Context, Entry, Request};
use tweedie_papers::flag::{Flag, Values};
use tweedie_papers::outcome::Provenance;

use crate::Common;
use crate::console::say;
use crate::progress::Progress;

/// An experiment and what is requested of it.
pub struct Arguments {
    entry: &'static Entry,
    flags: Vec<(String, Vec<String>)>,
    output: Output,
}

#[derive(Args, Debug)]
struct Output {
    /// Where CSV, SVG and Markdown are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Small sizes, to see in a minute or two that it runs; the numbers mean nothing, and the page
    /// says so
    #[arg(long)]
    quick: bool,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Set any setting by its path, as trials=100 or recipe.width=128; --json shows all of them.
    /// Give it again for more; it wins over flags and --quick
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Do this part alone and print what it found
    #[arg(long, value_name = "PART", hide = true)]
    memory_of: Option<String>,
}

impl Args for Arguments {
    fn augment_args(command: clap::Command) -> clap::Command {
        let experiments = tweedie_papers::ALL.iter().map(|entry| {
            let (about, help) = entry.manual();
            // settings that cannot be written down are a mistake that the tests find
            let flags = (entry.flags)().unwrap_or_default();
            let command = Output::augment_args(clap::Command::new(entry.name));
            // after the common options, whose own description they replace
            let command = command.about(about).long_about(None).after_help(help);
            command.args(flags.into_iter().map(argument))
        });
        command.subcommand_required(true).arg_required_else_help(true).subcommands(experiments)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Arguments::augment_args(command)
    }
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Arguments, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        let entry = tweedie_papers::ALL.iter().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(missing)?;
        let mut flags = Vec::new();
        for Flag { name, values, .. } in (entry.flags)().unwrap_or_default() {
            if matches.value_source(&name) == Some(ValueSource::CommandLine) {
                let switch = values == Values::None;
                let all = if switch { None } else { matches.get_many::<String>(&name) };
                flags.push((name, all.into_iter().flatten().cloned().collect()));
            }
        }
        Ok(Arguments { entry, flags, output: Output::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Arguments::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The option of a flag, with its default for the help text.
fn argument(flag: Flag) -> Arg {
    let arg = Arg::new(flag.name.clone()).long(flag.name).help(flag.help).required(flag.required);
    let arg = if flag.group.is_empty() { arg } else { arg.help_heading(flag.group) };
    if flag.values == Values::None {
        return arg.action(ArgAction::SetTrue);
    }
    let arg = arg.value_name(flag.value).default_values(flag.default.filter(|_| !flag.required));
    let choices = flag.choices.into_iter().map(|(name, help)| PossibleValue::new(name).help(help));
    let choices: Vec<PossibleValue> = choices.collect();
    let arg = if choices.is_empty() { arg } else { arg.value_parser(choices) };
    match flag.values {
        Values::List => arg.value_delimiter(',').action(ArgAction::Append),
        Values::Repeated => arg.action(ArgAction::Append),
        _ => arg,
    }
}

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
    let (device, settings) = (output.prepare()?, (entry.settings)(&request)?);
    let started = Instant::now();
    let mut bar = Progress::new(entry.name, 1000, output.common.quiet);
    let outcome = (entry.run)(
        &settings,
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
    let text = outcome.markdown(entry.name, entry.page(), &settings, &made)?;
    outcome.write(&output.out)?;
    OutputFile::create(&page)?.finish(text.as_bytes())?;
    say(output.common.quiet, "done");
    let mut all = json!({
        "experiment": entry.name, "page": page, "out": output.out, "quick": output.quick,
        "seed": output.seed, "seconds": made.seconds, "command": made.command,
        "date": made.date, "version": made.version,
    });
    if let (Some(all), Value::Object(found)) = (all.as_object_mut(), outcome.json(&settings)) {
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// Every experiment says in its help how long it takes.
    #[test]
    fn every_help_has_the_time() {
        let mut program = Program::command();
        assert_eq!(program.get_subcommands().count(), tweedie_papers::ALL.len());
        for experiment in program.get_subcommands_mut() {
            let help = experiment.render_long_help().to_string();
            assert!(help.contains("\nTime: "), "{}: {help}", experiment.get_name());
            assert!(!help.starts_with("What every command"), "{help}");
        }
    }

    /// The commands of the documentation and of the help texts are commands of the program, and the
    /// documentation has every experiment.
    #[test]
    fn documented_commands_can_be_given() {
        let mut text = include_str!("../../../docs/experiments.md").replace("\\\n", " ");
        for entry in &tweedie_papers::ALL {
            assert!(text.contains(&format!("`{}`", entry.name)), "{}", entry.name);
        }
        for entry in &tweedie_papers::ALL {
            text = format!("{text}\n{}", entry.manual().1);
        }
        let commands: Vec<&str> =
            text.lines().filter_map(|line| line.trim().strip_prefix("tweedie ")).collect();
        let experiments: Vec<&str> =
            commands.into_iter().filter(|c| c.starts_with("experiment ")).collect();
        assert!(experiments.len() > 40, "{experiments:?}");
        for command in experiments {
            let parsed = Program::try_parse_from(command.split_whitespace());
            assert!(
                parsed.is_ok(),
                "{command}: {}",
                parsed.err().map(|e| e.to_string()).unwrap_or_default()
            );
        }
    }
}
