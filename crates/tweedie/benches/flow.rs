//! Likelihoods by the probability-flow ODE, timed as `benches/peers/flow.py` times PyTorch's with
//! torchdiffeq; one JSON line.
//!
//!     cargo bench --bench flow -- --run RUN --data FILE --rows 1000 --probes 0 \
//!         --out values.safetensors
//!
//! `--probes 0` is the exact divergence. The file has the rows in the network's units, the probes
//! and the values, so that a peer can be given the same. Without arguments: the mixture of a test,
//! once.

mod common;

use std::sync::Arc;

use common::Clock;
use tch::{Device, Kind, Tensor};
use tweedie::likelihood::{Divergence, Estimate, LogLikelihood, ProbabilityFlow};
use tweedie::model::Denoiser;
use tweedie::noise::{Noise, Seed};
use tweedie::oracle::{Oracle, named};
use tweedie::query::Batch;
use tweedie::run::{Run, scaled_rows};
use tweedie::schedule::Vp;

const SEED: Seed = Seed(5);

struct Options {
    run: Option<String>,
    data: String,
    rows: usize,
    probes: usize,
    tolerance: f64,
    repeats: usize,
    threads: usize,
    clock: Clock,
    out: Option<String>,
}

impl Options {
    fn from_args() -> Options {
        let mut options = Options {
            run: None,
            data: String::new(),
            rows: 8,
            probes: 0,
            tolerance: 1e-5,
            repeats: 1,
            threads: 2,
            clock: Clock::Wall,
            out: None,
        };
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(name) = args.next() {
            let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let count = || value.parse().unwrap_or_else(|_| panic!("{name} {value}: not a count"));
            match name.as_str() {
                "--run" => options.run = Some(value),
                "--data" => options.data = value,
                "--rows" => options.rows = count(),
                "--probes" => options.probes = count(),
                "--tolerance" => options.tolerance = value.parse().expect("a number"),
                "--repeats" => options.repeats = count(),
                "--threads" => options.threads = count(),
                "--clock" => options.clock = if value == "cpu" { Clock::Cpu } else { Clock::Wall },
                "--out" => options.out = Some(value),
                _ => panic!("{name}: not an option"),
            }
        }
        options
    }

    fn estimate(&self, model: &dyn Denoiser, x: &Tensor) -> Estimate {
        let divergence = match self.probes {
            0 => Divergence::Exact,
            probes => Divergence::Rademacher { probes },
        };
        let flow = ProbabilityFlow::new(model).tolerance(self.tolerance, self.tolerance);
        let flow = flow.and_then(|flow| flow.divergence(divergence)).expect("a valid flow");
        flow.log_likelihood(&Batch::of(x), SEED, 0).expect("likelihoods")
    }

    fn time(&self, model: &dyn Denoiser, x: &Tensor) -> Estimate {
        let mut estimate = None;
        let mut seconds: Vec<f64> = (0..self.repeats)
            .map(|_| self.clock.time(|| estimate = Some(self.estimate(model, x))).as_secs_f64())
            .collect();
        seconds.sort_by(f64::total_cmp);
        let estimate = estimate.expect("at least one repeat");
        let record = serde_json::json!({
            "what": "flow", "rows": x.size()[0], "d": x.size()[1],
            "seconds": seconds[seconds.len() / 2], "fastest": seconds[0],
            "evaluations": estimate.evaluations, "flagged": estimate.flags.len(),
            "estimator": estimate.estimator, "threads": self.threads,
        });
        println!("{record}");
        estimate
    }
}

fn main() {
    common::process::let_threads_sleep();
    common::process::keep_memory();
    let options = Options::from_args();
    tch::set_num_threads(options.threads as i32);
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()
        .expect("the first thread pool");
    let Some(run) = &options.run else {
        let oracle = Oracle::new(named::nine_gaussians(), Arc::new(Vp::default()));
        options.time(&oracle, &oracle.mixture.sample(options.rows, SEED));
        return;
    };
    let run = Run::load(run, Device::Cpu).expect("a run");
    let table = run
        .data
        .read_table(options.data.as_ref(), &run.config.data.table)
        .expect("the run's columns");
    let rows: Vec<usize> = (0..options.rows.min(table.rows())).collect();
    let (x, _) = scaled_rows(&table, &rows, &run.data.scaling, SEED.derive("dequantise"));
    let x = x.to_kind(run.model.space().kind);
    let estimate = options.time(&run.model, &x);
    if let Some(out) = &options.out {
        let (n, d) = x.size2().expect("rows");
        let mut noise = Noise::new(SEED, 0..n as u64);
        let signs = noise.rademacher(options.probes * d as usize, Kind::Int8, Device::Cpu);
        let probes = signs.view([n, options.probes as i64, d]);
        let (values, errors) =
            (Tensor::from_slice(&estimate.values), Tensor::from_slice(&estimate.std_errors));
        let tensors =
            [("rows", x), ("probes", probes), ("log_density", values), ("std_error", errors)];
        Tensor::write_safetensors(&tensors, out).expect("a writable file");
    }
}
