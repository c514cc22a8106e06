//! The flags of `tweedie train`, and how they win over a configuration.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tweedie::covariance::CovarianceConfig;
use tweedie::data::{Dequantize, Marginals, Missing};
use tweedie::grid::TimeLaw;
use tweedie::model::{
    BaseKind, HeadConfig, HeadStart, HeadTrunk, NetworkConfig, Parametrization, Precision,
    Structure, UNetConfig,
};
use tweedie::objective::{ObjectiveConfig, ScoreGradient, Target, Trains, Weighting};
use tweedie::run::{DataRecord, Given, RunConfig};
use tweedie::schedule::ScheduleConfig;
use tweedie::{Error, Result};

use crate::Common;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ObjectiveName {
    /// Likelihood Matching
    Lm,
    /// Denoising score matching, σ² weighting
    Sm,
    /// Score matching, likelihood weighting, uniform t
    SmLw,
    /// Score matching, likelihood weighting, importance-sampled t
    SmLwIs,
    /// Optimal Covariance Matching: a head fitted to the Jacobian of a frozen score
    Ocm,
    /// A head fitted to the squared residual of a frozen score
    Npr,
    /// A diagonal head fitted to the squared noise, the square of a frozen score's taken off
    Sn,
    /// A diagonal head between the variances β̃ and β by the variational bound, under a frozen
    /// score (I-DDPM); sample and score with --covariance interpolated
    Iddpm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScheduleName {
    /// Variance preserving, linear β
    Vp,
    /// Sub-variance-preserving, linear β
    SubVp,
    /// Variance exploding, geometric σ
    Ve,
    /// Variance preserving, the cosine law
    Cosine,
}

impl ScheduleName {
    fn get(self) -> ScheduleConfig {
        match self {
            ScheduleName::Vp => ScheduleConfig::default(),
            ScheduleName::SubVp => ScheduleConfig::sub_vp(),
            ScheduleName::Ve => ScheduleConfig::ve(),
            ScheduleName::Cosine => ScheduleConfig::cosine(),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// The quasi-likelihood trains score and head together
    Joint,
    /// Score matching trains the score, the quasi-likelihood the head
    Dsm,
    /// The score is frozen; the head is trained
    Head,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HeadStartName {
    Base,
    Analytic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionName {
    F32,
    Bf16,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BaseName {
    Isotropic,
    Gaussian,
    Mixture,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MarginalsName {
    /// Gaussianize columns with a long tail or an edge where held-out rows gain by it; standardize
    /// the others
    Auto,
    /// Shift and scale each column
    Standardize,
    /// Map each column to a normal law by a smooth monotone spline
    Gaussianize,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tweedie train --data wine.csv --out runs/wine --drop label
  tweedie train --data counts.parquet --out runs/counts --dequantize integers --rank 8
  tweedie train --data pictures/ --classes --flip --out runs/pictures
  tweedie train --data mixture:two-gaussians --out runs/two --iterations 5000
  tweedie train --data wine.csv --out runs/flow --schedule sub-vp --objective sm-lw-is
  tweedie train --out runs/wine --resume")]
pub struct Arguments {
    /// A table (CSV, TSV, Parquet, NPY), images (a folder, IDX, NPY, NPZ, CIFAR-10's batches), or
    /// mixture:NAME
    #[arg(long, value_name = "FILE|DIR|mixture:NAME")]
    data: Option<String>,
    /// The run directory
    #[arg(long, value_name = "RUN")]
    pub(super) out: PathBuf,
    /// A configuration file, as the config.toml of a run: what it gives wins over all defaults,
    /// flags win over it [default: none]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Go on with the run in --out from its last checkpoint; only --iterations, --max-seconds,
    /// --patience and --checkpoint-every may be given with it
    #[arg(long)]
    pub(super) resume: bool,
    /// Seed of everything random but the split [default: 0]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,

    /// Columns to use, by name or position from 1 [default: all]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', help_heading = "Data")]
    columns: Vec<String>,
    /// Columns to leave out [default: none]
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', help_heading = "Data")]
    drop: Vec<String>,
    /// Delimiter of a text table [default: found]
    #[arg(long, value_name = "CHAR", help_heading = "Data")]
    delimiter: Option<char>,
    /// What stands before the decimals of a text table, . or , [default: found]
    #[arg(long, value_name = "CHAR", help_heading = "Data")]
    decimal: Option<char>,
    /// Whether a text table has a header [default: found]
    #[arg(long, value_name = "BOOL", help_heading = "Data")]
    header: Option<bool>,
    /// Rows with missing cells: an error, or dropped and counted [default: error]
    #[arg(long, value_name = "error|drop-rows", help_heading = "Data")]
    missing: Option<String>,
    /// Drop duplicate rows
    #[arg(long, help_heading = "Data")]
    unique: bool,
    /// Columns to dequantise by uniform noise: none, integers, or names [default: none; images
    /// always are]
    #[arg(long, value_name = "WHICH", help_heading = "Data")]
    dequantize: Option<String>,
    /// How columns are brought to the network's units [default: auto]
    #[arg(long, help_heading = "Data")]
    marginals: Option<MarginalsName>,
    /// Bring images to this height and width: those no larger get a black border, others are
    /// resampled [default: as they are]
    #[arg(long, value_name = "HxW", value_parser = size, help_heading = "Data")]
    size: Option<[usize; 2]>,
    /// Leave out and count images of a folder that cannot be decoded
    #[arg(long, help_heading = "Data")]
    skip_corrupt: bool,
    /// Condition the model on the images' classes: sub-folders, or the labels of IDX, NPZ and
    /// CIFAR-10
    #[arg(long, help_heading = "Data")]
    classes: bool,
    /// Mirror training images, left to right, in half of their draws
    #[arg(long, help_heading = "Data")]
    flip: bool,
    /// Validation rows from a file of their own [default: a share of --data]
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    validation: Option<PathBuf>,
    /// Shares of training, validation and test rows [default: 0.8,0.1,0.1]
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', num_args = 1, help_heading = "Data")]
    split: Vec<f64>,
    /// Seed of the split, and of the rows of a mixture: the same for every --seed, so that seeds
    /// compare [default: 0, or that of --score-from]
    #[arg(long, value_name = "S", help_heading = "Data")]
    split_seed: Option<u64>,

    /// The forward process [default: vp, or that of --score-from]
    #[arg(long, help_heading = "Model")]
    schedule: Option<ScheduleName>,
    /// The distribution that the network corrects [default: mixture; isotropic for images]
    #[arg(long, help_heading = "Model")]
    base: Option<BaseName>,
    /// Rank of the covariance head: 0 is diagonal; full; or auto, with --score-from: the least, up
    /// to 32, that leaves a tenth of the norm of the score's own G [default: 4, or the number of
    /// columns]
    #[arg(long, value_name = "R|full|auto", help_heading = "Model")]
    pub(super) rank: Option<String>,
    /// What the head starts from and corrects: the base's G, or, with --score-from, E|ε − ε̂|²/d of
    /// that score, measured at its first use and kept with it [default: analytic on a given score
    /// with an isotropic base, as of images, else base]
    #[arg(long, value_name = "START", help_heading = "Model")]
    head_start: Option<HeadStartName>,
    /// Take H = ReLU(U) + VVᵀ as the paper's text does
    #[arg(long, help_heading = "Model")]
    paper_literal: bool,
    /// Hidden units, for tables [default: 128]
    #[arg(long, value_name = "W", help_heading = "Model")]
    width: Option<i64>,
    /// Residual blocks, for tables [default: 3]
    #[arg(long, value_name = "L", help_heading = "Model")]
    depth: Option<i64>,
    /// A network of its own for the covariance, as in the paper [default: a head on the score's
    /// network]
    #[arg(long, help_heading = "Model")]
    separate: bool,

    /// What is minimised [default: lm]
    #[arg(long, help_heading = "Training")]
    objective: Option<ObjectiveName>,
    /// Weight of the score-matching loss between σ² (0) and the likelihood weighting (1), for sm-lw
    /// and sm-lw-is [default: 1]
    #[arg(long, value_name = "P", help_heading = "Training")]
    weighting: Option<f64>,
    /// What trains the score under lm [default: dsm]
    #[arg(long, help_heading = "Training")]
    mode: Option<Mode>,
    /// Take the score from this finished run and train a covariance head on it [default: none, the
    /// score is trained]
    #[arg(long, value_name = "RUN", help_heading = "Training")]
    pub(super) score_from: Option<PathBuf>,
    /// Transitions per path under lm; draws per row under the other objectives [default: 4; 1]
    #[arg(long, value_name = "N", help_heading = "Training")]
    transitions: Option<usize>,
    /// Steps of the optimiser [default: 20000]
    #[arg(long, value_name = "I", help_heading = "Training")]
    iterations: Option<u64>,
    /// Rows per step [default: 256; 16 images]
    #[arg(long, value_name = "B", help_heading = "Training")]
    batch_size: Option<usize>,
    /// Batches whose gradients are averaged for one step: A times B rows in the memory of B
    /// [default: 1]
    #[arg(long, value_name = "A", help_heading = "Training")]
    accumulation: Option<u64>,
    /// Products of weights and activations of a U-Net in f32 or bf16 (for GPUs) [default: f32]
    #[arg(long, value_enum, help_heading = "Training")]
    precision: Option<PrecisionName>,
    /// Adam's step size after 200 steps, from where it falls along a cosine [default: 0.003; 0.001
    /// for images]
    #[arg(long, value_name = "RATE", help_heading = "Training")]
    learning_rate: Option<f64>,
    /// Validations, one every 500 steps, without improvement before stopping; 0: never [default:
    /// 10]
    #[arg(long, value_name = "P", help_heading = "Training")]
    patience: Option<u64>,
    /// Stop after this many seconds, the fit of the base included; with --resume, this many more;
    /// 0: no limit [default: 0]
    #[arg(long, value_name = "SECONDS", help_heading = "Training")]
    max_seconds: Option<f64>,
    /// Steps between checkpoints, besides one every 60 s [default: 1000]
    #[arg(long, value_name = "STEPS", help_heading = "Training")]
    checkpoint_every: Option<u64>,

    #[command(flatten)]
    pub(super) common: Common,
}

/// The flag that sets the field at this path of a configuration, or the path where there is none.
pub(super) fn flag_of(path: &str) -> String {
    let known = [
        ("data.source", "--data"),
        ("data.table.", ""),
        ("data.scaling.", ""),
        ("data.", ""),
        ("base.kind", "--base"),
        ("base", "--base"),
        ("schedule", "--schedule"),
        ("model.head.structure", "--rank"),
        ("model.head.start", "--head-start"),
        ("model.head.parametrization", "--paper-literal"),
        ("model.head", "--objective"),
        ("model.network.head_trunk", "--separate"),
        ("model.network.", ""),
        ("objective.transitions", "--transitions"),
        ("objective.draws", "--transitions"),
        ("objective.weighting", "--weighting"),
        ("objective.score", "--mode"),
        ("objective", "--objective"),
        ("train.", ""),
        ("seed", "--seed"),
    ];
    let (prefix, flag) =
        known.into_iter().find(|(prefix, _)| path.starts_with(prefix)).unwrap_or(("", ""));
    match flag {
        "" => format!(
            "--{}",
            path[prefix.len()..].split('.').next().unwrap_or_default().replace('_', "-")
        ),
        flag => flag.into(),
    }
}

/// `HxW`.
pub fn size(text: &str) -> std::result::Result<[usize; 2], String> {
    let (height, width) = text.split_once('x').ok_or("not HxW, such as 32x32")?;
    let side = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number of pixels"));
    Ok([side(height)?, side(width)?])
}

impl Arguments {
    /// Flags over the configuration.
    pub(super) fn apply(&self, config: &mut RunConfig) -> Result<()> {
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                *field = value.clone();
            }
        }
        set(&mut config.data.source, &self.data);
        set(&mut config.seed, &self.seed);
        if self.split_seed.is_some() {
            config.data.split_seed = self.split_seed;
        }
        config.data.flip |= self.flip;
        config.data.classes |= self.classes;
        let table = &mut config.data.table;
        if !self.columns.is_empty() {
            table.columns = self.columns.clone();
        }
        if !self.drop.is_empty() {
            table.drop = self.drop.clone();
        }
        if self.delimiter.is_some() {
            table.delimiter = self.delimiter;
        }
        if self.decimal.is_some() {
            table.decimal = self.decimal;
        }
        if self.header.is_some() {
            table.header = self.header;
        }
        table.unique |= self.unique;
        table.size = self.size.or(table.size);
        table.skip_corrupt |= self.skip_corrupt;
        match self.missing.as_deref() {
            None => (),
            Some("error") => table.missing = Missing::Error,
            Some("drop-rows") => table.missing = Missing::DropRows,
            Some(other) => {
                return Err(Error::config("--missing", other, "give error or drop-rows"));
            }
        }
        match self.dequantize.as_deref() {
            None => (),
            Some("none") => config.data.scaling.dequantize = Dequantize::None,
            Some("integers") => config.data.scaling.dequantize = Dequantize::Integers,
            Some(names) => {
                config.data.scaling.dequantize =
                    Dequantize::Columns(names.split(',').map(String::from).collect());
            }
        }
        match self.marginals {
            None => (),
            Some(MarginalsName::Auto) => config.data.scaling.marginals = Marginals::Auto,
            Some(MarginalsName::Standardize) => {
                config.data.scaling.marginals = Marginals::Standardize
            }
            Some(MarginalsName::Gaussianize) => {
                config.data.scaling.marginals = Marginals::Gaussianize
            }
        }
        if self.validation.is_some() {
            config.data.validation = self.validation.clone();
            config.data.split = [1.0, 0.0, 0.0];
        }
        match self.split[..] {
            [] => (),
            [a, b, c] => config.data.split = [a, b, c],
            _ => {
                return Err(Error::config(
                    "--split",
                    format!("{:?}", self.split),
                    "give three shares, 0.8,0.1,0.1",
                ));
            }
        }
        set(&mut config.schedule, &self.schedule.map(ScheduleName::get));
        match self.base {
            None => (),
            Some(BaseName::Isotropic) => config.base.kind = BaseKind::Isotropic,
            Some(BaseName::Gaussian) => config.base.kind = BaseKind::Gaussian,
            Some(BaseName::Mixture) => config.base.kind = BaseKind::Mixture,
        }
        let head_trunk = match &mut config.model.network {
            NetworkConfig::Mlp(network) => {
                set(&mut network.width, &self.width);
                set(&mut network.depth, &self.depth);
                &mut network.head_trunk
            }
            NetworkConfig::UNet(network) => {
                if self.width.is_some() || self.depth.is_some() {
                    return Err(Error::config(
                        "--width, --depth",
                        "the configured network is a U-Net",
                        "set widths and blocks in the configuration file",
                    ));
                }
                &mut network.head_trunk
            }
        };
        if self.separate {
            *head_trunk = HeadTrunk::Separate;
        }
        let train = &mut config.train;
        set(&mut train.iterations, &self.iterations);
        set(&mut train.batch_size, &self.batch_size);
        set(&mut train.accumulation, &self.accumulation);
        match self.precision {
            None => (),
            Some(PrecisionName::F32) => train.precision = Precision::F32,
            Some(PrecisionName::Bf16) => train.precision = Precision::Bf16,
        }
        set(&mut train.learning_rate, &self.learning_rate);
        set(&mut train.patience, &self.patience);
        set(&mut train.max_seconds, &self.max_seconds);
        set(&mut train.checkpoint_every, &self.checkpoint_every);
        self.apply_objective(config)?;
        self.apply_head(config)
    }

    /// The seconds of the flag.
    pub(super) fn max_seconds(&self) -> Option<f64> {
        self.max_seconds
    }

    /// What neither a flag nor the configuration file gives follows the data: a rank of at most the
    /// number of columns, and for images a small U-Net, an isotropic base, times uniform in `t`
    /// (most of the range of log signal-to-noise ratios is finer than a level) and numbers of rows
    /// that suit its cost.
    pub(super) fn fit_to(
        &self,
        config: &mut RunConfig,
        data: &DataRecord,
        file: &Given,
    ) -> Result<()> {
        let columns = data.scaling.dim() as i64;
        let asked = self.resume || self.rank.is_some() || file.has("model.head.structure");
        if let (false, Some(HeadConfig { structure: Structure::LowRank(rank), .. })) =
            (asked, &mut config.model.head)
        {
            *rank = (*rank).min(columns);
        }
        let Some(shape) = data.image.filter(|_| !self.resume) else { return Ok(()) };
        let train = &mut config.train;
        if let (false, ObjectiveConfig::Lm { time, .. }) =
            (file.has("objective.time"), &mut config.objective)
        {
            *time = TimeLaw::Uniform;
        }
        if self.batch_size.is_none() && !file.has("train.batch_size") {
            train.batch_size = 16;
        }
        if self.learning_rate.is_none() && !file.has("train.learning_rate") {
            train.learning_rate = 1e-3;
        }
        if !file.has("train.validation_rows") {
            train.validation_rows = 128;
        }
        // with a score of another run, base and network are that run's
        let donor = self.score_from.is_some();
        if self.base.is_none() && !donor && !file.has("base.kind") {
            config.base.kind = BaseKind::Isotropic;
        }
        let shape = shape.map(|n| n as i64);
        let perceptron = self.width.is_some() || self.depth.is_some();
        if !perceptron && (!donor || self.config.is_some()) && !file.has("model.network") {
            let mut network = UNetConfig { shape, ..UNetConfig::default() };
            if self.separate {
                network.head_trunk = HeadTrunk::Separate;
            }
            config.model.network = NetworkConfig::UNet(network);
        }
        if let NetworkConfig::UNet(network) = &mut config.model.network {
            let (asked, found) = (network.classes, data.classes.len() as i64);
            if asked == 0 {
                network.classes = found;
            } else if asked != found {
                let problem =
                    format!("the network is conditioned on {asked} classes, the data have {found}");
                return Err(Error::config(
                    "--classes",
                    problem,
                    "give it, and images of as many classes",
                ));
            }
        }
        match &config.model.network {
            NetworkConfig::UNet(network) if network.shape == shape => Ok(()),
            NetworkConfig::UNet(network) => {
                let problem = format!(
                    "the network takes images of {:?}, the data are {shape:?}",
                    network.shape
                );
                Err(Error::config(
                    "shape",
                    problem,
                    "bring the images to the network's size with --size",
                ))
            }
            NetworkConfig::Mlp(_) if perceptron => Err(Error::config(
                "--width, --depth",
                "the data are images, for which the network is a U-Net",
                "set its widths and blocks in a configuration file",
            )),
            NetworkConfig::Mlp(_) => Err(Error::config(
                "model.network",
                "the data are images, for which the network is a U-Net, and the configured one is a perceptron",
                "give kind = \"unet\" there, or leave the section out",
            )),
        }
    }

    fn apply_objective(&self, config: &mut RunConfig) -> Result<()> {
        let sm = |weighting, time| ObjectiveConfig::Sm { weighting, time, draws: 1 };
        let matching = |target| ObjectiveConfig::CovarianceMatching {
            target,
            time: TimeLaw::Uniform,
            draws: 1,
        };
        match self.objective {
            None => (),
            Some(ObjectiveName::Lm) if matches!(config.objective, ObjectiveConfig::Lm { .. }) => (),
            Some(ObjectiveName::Lm) => config.objective = ObjectiveConfig::default(),
            Some(ObjectiveName::Sm) => config.objective = sm(Weighting::Sigma2, TimeLaw::Uniform),
            Some(ObjectiveName::SmLw) => {
                config.objective = sm(Weighting::Likelihood, TimeLaw::Uniform)
            }
            Some(ObjectiveName::SmLwIs) => {
                config.objective = sm(Weighting::Likelihood, TimeLaw::LogSnr)
            }
            Some(ObjectiveName::Ocm) => config.objective = matching(Target::Jacobian),
            Some(ObjectiveName::Npr) => config.objective = matching(Target::Residual),
            Some(ObjectiveName::Sn) => config.objective = matching(Target::SecondMoment),
            Some(ObjectiveName::Iddpm) => {
                config.objective = ObjectiveConfig::VariationalBound { draws: 1 }
            }
        }
        if let Some(power) = self.weighting {
            match &mut config.objective {
                ObjectiveConfig::Sm { weighting, .. } => {
                    *weighting = Weighting::Interpolated(power)
                }
                _ => {
                    let remedy = "give --objective sm-lw or sm-lw-is";
                    return Err(Error::config(
                        "--weighting",
                        "only score matching has one",
                        remedy,
                    ));
                }
            }
        }
        match (&mut config.objective, self.transitions) {
            (_, None) => (),
            (
                ObjectiveConfig::Lm { transitions, .. }
                | ObjectiveConfig::LmZeroHessian { transitions, .. },
                Some(n),
            ) => *transitions = n,
            (
                ObjectiveConfig::Sm { draws, .. }
                | ObjectiveConfig::CovarianceMatching { draws, .. }
                | ObjectiveConfig::VariationalBound { draws },
                Some(n),
            ) => *draws = n,
        }
        if let Some(mode) = self.mode {
            let ObjectiveConfig::Lm { score, .. } = &mut config.objective else {
                return Err(Error::config(
                    "--mode",
                    "given with a score-matching objective",
                    "give --objective lm",
                ));
            };
            *score = match mode {
                Mode::Joint => ScoreGradient::Joint,
                Mode::Dsm => ScoreGradient::Dsm,
                Mode::Head => ScoreGradient::Frozen,
            };
        }
        let trains_score = config.objective.build()?.trains() != Trains::Head;
        if self.score_from.is_some() && trains_score {
            let remedy = "give --mode head, or --objective ocm, npr, sn or iddpm";
            return Err(Error::config("--score-from", "the score would be trained", remedy));
        }
        if self.score_from.is_none() && self.config.is_none() && !self.resume && !trains_score {
            let remedy = "give the run that has the score with --score-from";
            return Err(Error::config("--score-from", "nothing would train the score", remedy));
        }
        Ok(())
    }

    fn apply_head(&self, config: &mut RunConfig) -> Result<()> {
        if !config.objective.trains_head() {
            if self.rank.is_some() {
                return Err(Error::config(
                    "--rank",
                    "score matching has no covariance head",
                    "give --objective lm",
                ));
            }
            config.model.head = None;
            return Ok(());
        }
        let head = config.model.head.get_or_insert_with(HeadConfig::default);
        match self.objective {
            None => (),
            Some(ObjectiveName::Sn) => *head = HeadConfig::diagonal(Parametrization::SecondMoment),
            Some(ObjectiveName::Iddpm) => {
                *head = HeadConfig::diagonal(Parametrization::Interpolation)
            }
            Some(_) if CovarianceConfig::of_head(head) != CovarianceConfig::Own => {
                *head = HeadConfig::default()
            }
            Some(_) if head.parametrization == Parametrization::SecondMoment => {
                *head = HeadConfig::default()
            }
            Some(_) => (),
        }
        match self.rank.as_deref() {
            None => (),
            Some("full") => head.structure = Structure::Full,
            // chosen once the score is at hand
            Some("auto") if self.score_from.is_some() => head.structure = Structure::LowRank(0),
            Some("auto") => {
                let remedy = "give --score-from with it, or a number";
                return Err(Error::config("--rank", "auto, where no score is given", remedy));
            }
            Some(rank) => {
                let rank = rank.parse().ok().filter(|r| *r >= 0);
                let wrong = || {
                    Error::config(
                        "--rank",
                        format!("{:?}", self.rank),
                        "give a number from 0, full, or auto",
                    )
                };
                head.structure = Structure::LowRank(rank.ok_or_else(wrong)?);
            }
        }
        let frozen = self.score_from.is_some() && self.config.is_none() && !self.resume;
        match self.head_start {
            // an isotropic base says one number for each time, which is better measured; the G of
            // any other base knows more
            None if frozen && config.base.kind == BaseKind::Isotropic => {
                let classes = match &config.model.network {
                    NetworkConfig::UNet(network) => network.classes,
                    NetworkConfig::Mlp(_) => 0,
                };
                if head.corrects() && !self.paper_literal && classes == 0 {
                    head.start = HeadStart::Analytic;
                }
            }
            None => (),
            Some(HeadStartName::Base) => head.start = HeadStart::Base,
            Some(HeadStartName::Analytic) => head.start = HeadStart::Analytic,
        }
        if self.paper_literal {
            head.parametrization = Parametrization::PaperLiteral;
        }
        config.objective.check_head(head)
    }
}
