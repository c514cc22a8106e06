//! p-values of scores, and rows that are called anomalies.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tweedie::data::Unseen;
use tweedie::density::{AnomalyTest, Calibration, Density, ScoreOptions, Scores};
use tweedie::{Error, Result};

use crate::console::Console;
use crate::reading::Reading;

/// How anomalies are found among the rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Anomalies")]
pub struct TestArguments {
    /// Add the column p_value: the share of rows that the run was not trained on which score no
    /// higher
    #[arg(long)]
    p_values: bool,
    /// Add the column anomaly, true where the p-value is at most P, an error rate between 0 and 1
    #[arg(long, value_name = "P")]
    threshold: Option<f64>,
    /// The rows that p-values count [default: the run's validation rows]
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// At most so many of them, drawn at random
    #[arg(long, value_name = "N", default_value_t = Calibration::ROWS)]
    calibration_rows: usize,
}

impl TestArguments {
    /// Refuses what no test can have.
    pub fn check(&self) -> Result<()> {
        if self.calibration.is_some() && !self.is_requested() {
            let problem = "no p-values are computed";
            let remedy = "give score.p_values or score.threshold with it";
            return Err(Error::config("score.calibration", problem, remedy));
        }
        AnomalyTest::check_threshold(self.threshold)
    }

    fn is_requested(&self) -> bool {
        self.p_values || self.threshold.is_some()
    }

    /// The test that scores with these options are put to, where one is requested.
    pub fn of(
        &self,
        density: &Density,
        options: &ScoreOptions,
        (reading, unseen): (&Reading, Unseen),
        quiet: bool,
    ) -> Result<Option<AnomalyTest>> {
        if !self.is_requested() {
            return Ok(None);
        }
        let data = self.calibration.as_ref();
        let data =
            data.map(|path| reading.table_to_score(density.run(), path, unseen)).transpose()?;
        let (rows, mut console) = (self.calibration_rows, Console::new(quiet));
        let calibration = density.calibration(data.as_ref(), rows, options, &mut console)?;
        let test = AnomalyTest { calibration, threshold: self.threshold };
        if let Some(threshold) = self.threshold.filter(|_| test.is_blind()) {
            let rows = test.calibration.rows();
            let least = 1.0 / (1 + rows) as f64;
            say!(
                quiet,
                "warning: {rows} calibration rows have no p-value below {least:.2e}: none is at \
                 most {threshold}, and no row can be called an anomaly"
            );
        }
        Ok(Some(test))
    }
}

/// What is said of the test, as a line.
pub fn text(test: &AnomalyTest, scores: &Scores) -> String {
    let mut text = format!("p-values: {} calibration rows", test.calibration.rows());
    if let unsolved @ 1.. = test.calibration.unsolved() {
        text += &format!(", {unsolved} more without a value");
    }
    if let Some(threshold) = test.threshold {
        let (some, all) = (test.anomalies(scores.values()), scores.values().len());
        text += &format!("; {some} of {all} rows are anomalies at an error rate of {threshold}");
    }
    text
}

/// The same for programs.
pub fn json(test: &AnomalyTest, scores: &Scores) -> Value {
    let calibration = &test.calibration;
    let anomalies = test.threshold.map(|_| test.anomalies(scores.values()));
    json!({
        "rows": calibration.rows(), "unsolved": calibration.unsolved(),
        "threshold": test.threshold, "anomalies": anomalies,
    })
}
