//! `tweedie evaluate`

mod options;
mod print;

use std::path::Path;

use serde_json::json;
use tch::Device;
use tweedie::Result;
use tweedie::density::{Density, TestRows};
use tweedie::model::Denoiser;
use tweedie::process_group::ProcessGroup;

use crate::console::Console;
use crate::output::check_output;
use crate::processes::output_of;
use crate::reading::left_out;
pub use options::Arguments;
pub use print::json as evaluation_json;

impl Arguments {
    /// The run to compare with, and its rows.
    fn against(
        &self,
        path: &Path,
        density: &Density,
        group: &ProcessGroup,
    ) -> Result<(Density, TestRows)> {
        let other = Density::load_on(path, density.run().model.space().device)?;
        let other = self.arithmetic.of(other)?.over(group);
        let options = self.reading.options(other.run());
        let rows = other.test_rows(self.data.as_deref(), Some(&options))?;
        Ok((other, rows))
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (device, group) = arguments.processes.prepare(&arguments.common)?;
    group.reporting(|| evaluate(arguments, device, &group))
}

fn evaluate(arguments: &Arguments, device: Device, group: &ProcessGroup) -> Result<()> {
    let (mut options, quiet) = (arguments.options(), arguments.common.quiet);
    options.check()?;
    if let Some(out) = &options.images.save_reference {
        let images = &options.images;
        let given = [&arguments.data, &images.reference, &images.network];
        let inputs: Vec<&Path> = given.into_iter().filter_map(|path| path.as_deref()).collect();
        check_output("--save-reference", out, &inputs, &arguments.run, false)?;
    }
    let (common, arithmetic) = (&arguments.common, &arguments.arithmetic);
    let (density, remarks) = arithmetic.load(common, &arguments.run, device)?;
    let density = density.over(group);
    if let Some(out) = &mut options.images.save_reference {
        *out = output_of(group, out)?;
    }
    let mut console = Console::new(quiet);
    if !options.needs_rows(&density) {
        let found = density.evaluate_with(None, None, &options, &mut console)?;
        let answer = json!({ "images": print::figures_json(&found.figures), "remarks": remarks });
        arguments.common.print(&answer, print::figures(&found.figures).join("\n"));
        return Ok(());
    }
    let reading = arguments.reading.options(density.run());
    let mut rows = density.test_rows(arguments.data.as_deref(), Some(&reading))?;
    let left_out = left_out(&rows.table, quiet);
    let mut against = arguments
        .against
        .as_ref()
        .map(|path| arguments.against(path, &density, group))
        .transpose()?;
    if let Some((other, others)) = &mut against {
        density.share_rows(&mut rows, other, others, &mut console)?;
    }
    let other = against.as_ref().map(|(other, others)| (other, others));
    let found = density.evaluate_with(Some(&rows), other, &options, &mut console)?;
    let mut answer = print::json(&found);
    (answer["left_out"], answer["remarks"]) = (left_out, remarks.into());
    if let Some((other, _)) = &against {
        answer["against"] = json!(other.run().dir.path());
    }
    arguments.common.print(&answer, print::text(&found).join("\n"));
    Ok(())
}
