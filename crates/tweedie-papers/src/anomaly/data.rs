//! ADBench's sets, and their rows as the protocol has them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use tweedie::data::{Dataset, LabelledRows, Values, subset};
use tweedie::noise::{Noise, Seed};
use tweedie::{Error, Result};

/// The files of a folder that are sets, in the order of their names; of `parts`, where there are
/// any, those whose name contains one.
pub(super) fn sets(folder: &Path, parts: &[String]) -> Result<Vec<PathBuf>> {
    let bad = |problem: String| {
        let remedy = "give a folder of NPZ files with the arrays X and y, as ADBench's Classical";
        Err(Error::config("experiment.data", problem, remedy))
    };
    if folder.as_os_str().is_empty() {
        return bad("no folder was given".into());
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return bad(format!("{}: {error}", folder.display())),
    };
    let mut all: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "npz"))
        .filter(|path| parts.is_empty() || parts.iter().any(|part| name(path).contains(part)))
        .collect();
    all.sort();
    match all.is_empty() {
        true => bad(format!("{} holds no such set", folder.display())),
        false => Ok(all),
    }
}

fn name(path: &Path) -> String {
    path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// A set of rows, of which some are anomalies.
pub(super) struct Set {
    /// The file's, without its extension.
    pub name: String,
    path: PathBuf,
    /// `[n, d]`, f64.
    x: Tensor,
    anomalous: Vec<bool>,
}

impl Set {
    /// Rows in memory.
    #[cfg(test)]
    pub fn of(name: &str, x: Tensor, anomalous: Vec<bool>) -> Set {
        Set { name: name.into(), path: PathBuf::new(), x, anomalous }
    }

    /// A file of ADBench's.
    pub fn read(path: &Path) -> Result<Set> {
        let LabelledRows { x, columns, y } = LabelledRows::read(path)?;
        if let Some(other) = y.iter().find(|y| **y != 0.0 && **y != 1.0) {
            let problem = format!("its array 'y' holds {other}");
            return Err(Error::data(path, problem, "expected 1 for an anomaly, else 0"));
        }
        let x = Tensor::from_slice(&x).view([y.len() as i64, columns as i64]);
        let anomalous = y.iter().map(|&y| y == 1.0).collect();
        Ok(Set { name: name(path), path: path.into(), x, anomalous })
    }
}

/// The rows of a set, half of its normal ones to train on, the others and all anomalies to be told
/// apart: columns that vary among the rows of training, with their mean and standard deviation
/// there brought to 0 and 1.
pub(super) struct Halves {
    /// Standardised, `[n, d]`, f64.
    pub train: Tensor,
    /// Standardised, `[m, d]`, f64: normal rows, then anomalies.
    pub test: Tensor,
    /// Of each row of the test whether it is an anomaly.
    pub anomalous: Vec<bool>,
    /// The standard deviation of the noise of [`Halves::tables`], and its seed.
    noise: f64,
    seed: Seed,
}

impl Halves {
    /// At most `rows` rows of a set, and an anomaly where none is among them; `noise` is that of
    /// [`Halves::tables`].
    pub fn of(set: &Set, (rows, noise): (usize, f64), seed: Seed) -> Result<Halves> {
        let all: Vec<usize> = (0..set.anomalous.len()).collect();
        let some = subset(&all, rows, seed.derive("rows"));
        let (mut anomalies, normal): (Vec<usize>, Vec<usize>) =
            some.into_iter().partition(|&row| set.anomalous[row]);
        if anomalies.is_empty() {
            // none was drawn, as of few rows of a set with few anomalies: one that there is
            let all: Vec<usize> = all.into_iter().filter(|&row| set.anomalous[row]).collect();
            anomalies = subset(&all, 1, seed.derive("anomaly"));
        }
        let train = subset(&normal, normal.len().div_ceil(2), seed.derive("half"));
        let own: HashSet<usize> = train.iter().copied().collect();
        let held: Vec<usize> = normal.iter().copied().filter(|row| !own.contains(row)).collect();
        if train.len() < 2 {
            let problem = format!("{} normal rows are no two halves", normal.len());
            return Err(Error::data(&set.path, problem, "give more rows"));
        }
        let pick = |rows: &[usize]| {
            let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            set.x.index_select(0, &Tensor::from_slice(&rows))
        };
        let own = pick(&train);
        let mean = own.mean_dim([0i64].as_slice(), true, None::<Kind>);
        let spread = (&own - &mean).square().mean_dim([0i64].as_slice(), true, None::<Kind>).sqrt();
        let varies = spread.view(-1).gt(0.0).nonzero().view(-1);
        if varies.numel() == 0 {
            let problem = "no column varies among the rows of training";
            return Err(Error::data(&set.path, problem, "give rows that differ"));
        }
        let scaled = |x: Tensor| ((x - &mean) / &spread).index_select(1, &varies);
        let anomalous = held.iter().map(|_| false).chain(anomalies.iter().map(|_| true)).collect();
        let test = scaled(pick(&[held, anomalies].concat()));
        Ok(Halves { train: scaled(own), test, anomalous, noise, seed })
    }

    /// Rows that are trained on, normal ones of the test, and anomalies.
    pub fn rows(&self) -> [usize; 3] {
        let anomalies = self.anomalous.iter().filter(|anomalous| **anomalous).count();
        [self.train.size()[0] as usize, self.anomalous.len() - anomalies, anomalies]
    }

    /// The columns.
    pub fn columns(&self) -> usize {
        self.train.size()[1] as usize
    }

    /// Both as tables with normal noise added, so that values that repeat have a density.
    pub fn tables(&self) -> Result<[Dataset; 2]> {
        let of = |x: &Tensor, purpose: &str| {
            let (n, d) = x.size2().expect("rows");
            let noise = Noise::new(self.seed.derive(purpose), 0..n as u64).normal(
                d as usize,
                Kind::Double,
                Device::Cpu,
            );
            let x = (x + noise * self.noise).to_kind(Kind::Float);
            let column = |k: i64| {
                let values = Vec::try_from(x.select(1, k).contiguous()).expect("f32 on the CPU");
                (format!("x{}", k + 1), Values::Single(values))
            };
            Dataset::of_columns((0..d).map(column).collect())
        };
        Ok([of(&self.train, "noise of training")?, of(&self.test, "noise of the test")?])
    }
}
