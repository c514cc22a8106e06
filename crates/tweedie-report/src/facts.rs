//! What a run is, in words.

use tweedie::data::{ColumnScaling, ScaledColumn};
use tweedie::model::{HeadConfig, Structure};
use tweedie::run::{DataRecord, Facts, Outcome, RunConfig};

/// How the training ended, in words.
fn state(facts: &Facts) -> String {
    let (done, of) = (facts.ending.iteration, facts.config.train.iterations);
    match facts.ending.outcome {
        Outcome::Finished => format!("finished: all of {of} iterations"),
        Outcome::EarlyStop => {
            format!("finished: the validation no longer improved, at iteration {done} of {of}")
        }
        Outcome::OutOfTime => format!("finished: out of time, at iteration {done} of {of}"),
        Outcome::Imported => "imported: its weights were trained elsewhere".into(),
        Outcome::Unfinished => {
            format!("not finished: iteration {done} of {of}; `tweedie train --resume` goes on")
        }
    }
}

/// Everything in lines of a name and a value.
pub fn lines(facts: &Facts) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |name: &str, value: String| lines.push((name.into(), value));
    let (config, data) = (&facts.config, &facts.data);
    line("training", state(facts));
    if let Some((iteration, value)) = facts.best_validation() {
        let label = facts.validation_label();
        let last = match facts.last_validation() {
            Some((last, at_last)) if last != iteration => {
                format!("; at the last, {last}: {at_last:.4}")
            }
            _ => String::new(),
        };
        line(
            "weights",
            format!("of iteration {iteration}, the best: validation {value:.4}{last} ({label})"),
        );
    }
    if let Some(metric) = facts.metrics.last() {
        line(
            "loss",
            format!("{:.4} at iteration {} ({})", metric.loss, metric.iteration, loss(config)),
        );
        let rate = metric.seconds / metric.iteration.max(1) as f64;
        line("time", format!("{}, {:.3} s per iteration", duration(metric.seconds), rate));
    }
    line("objective", config.objective.describe());
    line("network", config.model.network.describe());
    if !config.categories.is_base() {
        line("categories", config.categories.describe());
    }
    line("covariance head", config.model.head.as_ref().map_or("none".into(), head));
    line("process", config.schedule.name().into());
    line("data", source(data));
    let [train, validation, test] = data.rows;
    if data.rows != [0; 3] {
        let split = format!("{train} training, {validation} validation, {test} test");
        line("rows", format!("{split} (split by seed {})", data.split_seed));
    }
    let [missing, duplicates] = data.dropped;
    if missing + duplicates > 0 {
        let what =
            if data.image.is_some() { "that cannot be decoded" } else { "with missing cells" };
        line("left out", format!("{missing} {what}, {duplicates} duplicates"));
    }
    line("preprocessing", preprocessing(data));
    if let Some(about) = &facts.about {
        line("begun", format!("{} by tweedie {}", about.date, about.version));
        line("command", about.command_line());
    }
    lines
}

/// Where rows come from and what they are.
fn source(data: &DataRecord) -> String {
    const NAMED: usize = 12;
    let source = if data.source.is_empty() { "unknown".into() } else { data.source.clone() };
    let what = match (data.image, &data.latents) {
        (Some([channels, height, width]), None) => {
            format!("images of {channels} × {height} × {width}")
        }
        (Some([channels, height, width]), Some(of)) => format!(
            "latents of {channels} × {height} × {width} by the autoencoder {} ({}), scale {}",
            of.vae, of.digest, of.scale
        ),
        (None, _) => {
            let names = data.names();
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("{} columns: {}{more}", names.len(), names[..names.len().min(NAMED)].join(", "))
        }
    };
    let classes = match data.classes.len() {
        0 => String::new(),
        classes => format!(", {classes} classes"),
    };
    format!("{source}: {what}{classes}")
}

/// How raw values become the network's.
pub fn preprocessing(data: &DataRecord) -> String {
    if data.latents.is_some() {
        return "latents as they are".into();
    }
    if data.image.is_some() {
        return "levels with uniform noise in their bins, brought to [−1, 1]".into();
    }
    let columns = data.scaling.columns();
    let named = |which: &dyn Fn(&ScaledColumn) -> bool| -> Vec<&str> {
        columns.iter().filter(|c| which(c)).map(|c| c.column.name.as_str()).collect()
    };
    let same = ColumnScaling::Affine { shift: 0.0, scale: 1.0 };
    let affine = |c: &ScaledColumn| match &c.map {
        ColumnScaling::Bounded { map, .. } => matches!(**map, ColumnScaling::Affine { .. }),
        map => matches!(map, ColumnScaling::Affine { .. }),
    };
    let spline = |c: &ScaledColumn| match &c.map {
        ColumnScaling::Bounded { map, .. } => matches!(**map, ColumnScaling::Gaussianize(_)),
        map => matches!(map, ColumnScaling::Gaussianize(_)),
    };
    let bounded = |c: &ScaledColumn| matches!(c.map, ColumnScaling::Bounded { .. });
    let schema = data.schema.iter();
    let differences: Vec<&str> =
        schema.flat_map(|own| own.differences()).map(|(column, _)| column.name.as_str()).collect();
    let bounded = |c: &ScaledColumn| bounded(c) && !differences.contains(&c.column.name.as_str());
    let bounded = named(&bounded);
    let parts = [
        ("taken as they are", named(&|c| c.map == same)),
        ("standardised", named(&|c| affine(c) && c.map != same)),
        ("gaussianised by a spline", named(&spline)),
        ("kept within bounds", bounded),
        ("differences to the columns that they are never less than", differences),
        ("dequantised", named(&|c| c.grid.is_some())),
    ];
    let features = data.features();
    let all_of = if features.is_some() { "all numbers" } else { "all columns" };
    let text = |(what, names): &(&str, Vec<&str>)| match names.len() {
        0 => None,
        all if all == columns.len() => Some(format!("{what}: {all_of}")),
        n if n > 8 => Some(format!("{what}: {n} columns")),
        _ => Some(format!("{what}: {}", names.join(", "))),
    };
    let categories = features.map_or(0, |features| features.cells().categories.len());
    let categories = (categories > 0).then(|| format!("categories: {categories}"));
    let given = (!data.context.is_empty()).then(|| format!("given: {}", data.context.join(", ")));
    let all = parts.iter().filter_map(text).chain(categories).chain(given);
    all.collect::<Vec<_>>().join("; ")
}

/// What the training loss is.
pub fn loss(config: &RunConfig) -> String {
    format!("loss of {}", config.objective.name())
}

fn head(head: &HeadConfig) -> String {
    match head.structure {
        Structure::LowRank(0) => "diagonal".into(),
        Structure::LowRank(rank) => format!("diagonal and rank {rank}"),
        Structure::Full => "full".into(),
    }
}

/// Seconds as people write them.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..100 => format!("{seconds:.0} s"),
        100..6000 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_people_say_them() {
        assert_eq!([12.3, 200.0, 7300.0].map(duration), ["12 s", "3 min 20 s", "2 h 1 min"]);
    }
}
