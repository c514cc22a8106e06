//! The least likely test rows, and the columns that make them so.

use maud::{Markup, html};

use tweedie::Result;
use tweedie::density::{Density, PartsOf, ScoreOptions, TestRows};
use tweedie::watch::Watch;

use super::Scores;

/// Rows that the page lists, and columns of each.
const ROWS: usize = 10;
const COLUMNS: usize = 3;

/// A row that is less likely than nearly all others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Anomaly {
    /// Its number in its file, from 1.
    pub row: usize,
    /// Its log-likelihood, nats.
    pub score: f64,
    /// Its least likely cells: the column, the cell as its file has it, and how far `ln p` of the
    /// cell given the others lies from what is usual of the column, nats.
    pub cells: Vec<(String, String, f64)>,
}

/// The least likely of `rows`, whose log-likelihoods are `scores`, with the cells that are the
/// least likely given the others under the model's base.
///
/// # Errors
/// As [`Density::parts`].
pub(super) fn least_likely(
    density: &Density,
    rows: &TestRows,
    scores: &Scores,
    watch: &mut dyn Watch,
) -> Result<Vec<Anomaly>> {
    let mut order: Vec<usize> = (0..scores.values.len()).collect();
    order.retain(|&i| !scores.values[i].is_nan());
    order.sort_by(|&a, &b| scores.values[a].total_cmp(&scores.values[b]));
    order.truncate(ROWS);
    let chosen: Vec<usize> = order.iter().map(|&i| rows.rows[i]).collect();
    let data = rows.table.take(&chosen);
    let values: Vec<f64> = order.iter().map(|&i| scores.values[i]).collect();
    let options = ScoreOptions::default();
    let parts = density.parts(&data, &values, Some(PartsOf::Base), &options, watch)?;
    let names = data.names();
    let anomaly = |(k, &i): (usize, &usize)| {
        let cells = parts.least_likely(k).into_iter().take(COLUMNS).map(|(column, from_usual)| {
            let place = names.iter().position(|name| *name == column.name);
            let cell = place.map_or_else(String::new, |place| data.cell_text(k, place));
            (column.name.clone(), cell, from_usual)
        });
        Anomaly { row: data.place(k).row, score: scores.values[i], cells: cells.collect() }
    };
    Ok(order.iter().enumerate().map(anomaly).collect())
}

/// A table of the rows.
pub(super) fn markup(anomalies: &[Anomaly]) -> Markup {
    let cells = |anomaly: &Anomaly| {
        let cell = |(column, cell, nats): &(String, String, f64)| {
            format!("{column} = {cell} ({nats:+.1})").replace("(-", "(−")
        };
        anomaly.cells.iter().map(cell).collect::<Vec<String>>().join(", ")
    };
    html! {
        @if !anomalies.is_empty() {
            div class="scroll" {
                table {
                    thead { tr {
                        th { "row" } th { "log-likelihood" }
                        th { "least likely cells (nats from usual)" }
                    } }
                    tbody {
                        @for anomaly in anomalies {
                            tr {
                                td { (anomaly.row) }
                                td { (format!("{:.2}", anomaly.score).replace('-', "−")) }
                                td { (cells(anomaly)) }
                            }
                        }
                    }
                }
            }
            p class="caption" {
                "The least likely of the test rows, called by their number in the file, in nats in \
                 the data's own units. In brackets: how far the log-density of a cell given the \
                 row's others, under the model's base, lies from its mean over rows drawn from the \
                 base."
            }
        }
    }
}
