//! The options of `tweedie experiment`: they are made of the tables of flags in
//! [`tweedie_papers::ALL`].

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use tweedie_papers::experiment::Entry;
use tweedie_papers::flag::{Flag, Values};

use crate::Common;

/// An experiment and what is requested of it.
pub struct Arguments {
    pub entry: &'static Entry,
    pub flags: Vec<(String, Vec<String>)>,
    pub output: Output,
}

#[derive(Args, Debug)]
pub struct Output {
    /// Where CSV, SVG and Markdown are written
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Small sizes, to see in a minute or two that it runs; the numbers mean nothing, and the page
    /// says so
    #[arg(long)]
    pub quick: bool,
    /// Seed of everything random
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Set any setting by its path, as trials=100 or recipe.width=128; --json shows all of them.
    /// Give it again for more; it wins over flags and --quick
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub common: Common,
    /// Do this part alone and print what it found
    #[arg(long, value_name = "PART", hide = true)]
    pub memory_of: Option<String>,
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
        let mut text = include_str!("../../../../docs/experiments.md").replace("\\\n", " ");
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
