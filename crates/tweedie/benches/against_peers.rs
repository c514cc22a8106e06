//! Training steps timed as `benches/peers/{mlp,unet}_step.py` time PyTorch's; one JSON line per
//! timing.
//!
//!     cargo bench --bench against_peers -- --what mlp,dsm,lm,unet,trial --dims 2,10,64 \
//!         --ranks 0,4,16 --repeats 15 --steps 50

mod common;

use common::{BATCH, Clock, Training};
use tweedie::model::HeadBody;

struct Options {
    what: Vec<String>,
    dims: Vec<usize>,
    ranks: Vec<i64>,
    repeats: usize,
    steps: u64,
    threads: usize,
    clock: Clock,
    trials: usize,
}

fn list<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split(',').map(|v| v.parse().unwrap_or_else(|_| panic!("not understood: {v}"))).collect()
}

impl Options {
    fn from_args() -> Options {
        let mut options = Options {
            what: list("mlp,dsm,lm"),
            dims: vec![2, 10, 64],
            ranks: vec![0, 4, 16],
            repeats: 5,
            steps: 50,
            threads: 2,
            clock: Clock::Wall,
            trials: 100,
        };
        if std::env::args().len() == 1 {
            // `cargo test --all-targets`: does it run?
            (options.repeats, options.steps) = (1, 1);
        }
        let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(name) = args.next() {
            let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
            match name.as_str() {
                "--what" => options.what = list(&value),
                "--dims" => options.dims = list(&value),
                "--ranks" => options.ranks = list(&value),
                "--repeats" => options.repeats = list(&value)[0],
                "--steps" => options.steps = list(&value)[0],
                "--threads" => options.threads = list(&value)[0],
                "--clock" => options.clock = if value == "cpu" { Clock::Cpu } else { Clock::Wall },
                "--trials" => options.trials = list(&value)[0],
                _ => panic!("{name}: not an option"),
            }
        }
        options
    }

    fn wants(&self, what: &str) -> bool {
        self.what.iter().any(|w| w == what)
    }

    /// Prints the median over repeats of the mean over a bout of `steps` steps, after a bout of
    /// warm-up.
    fn put(&self, what: &str, mut training: Training, fields: serde_json::Value) {
        training.time(self.steps, self.clock);
        let times = (0..self.repeats).map(|_| training.time(self.steps, self.clock)).collect();
        self.print(what, "ms_per_step", times, fields);
    }

    fn print(&self, what: &str, unit: &str, mut times: Vec<f64>, fields: serde_json::Value) {
        times.sort_by(f64::total_cmp);
        let mut record =
            serde_json::json!({ "what": what, "repeats": times.len(), "threads": self.threads });
        record[unit] = times[times.len() / 2].into();
        record["fastest"] = times[0].into();
        for (name, value) in fields.as_object().expect("fields") {
            record[name] = value.clone();
        }
        println!("{record}");
    }
}

/// Score matching, and heads of every rank and body.
fn unet_arms() -> impl Iterator<Item = (Option<i64>, HeadBody)> {
    let heads = [0, 4, 16]
        .into_iter()
        .flat_map(|r| [HeadBody::Simple, HeadBody::Complex].map(|body| (Some(r), body)));
    std::iter::once((None, HeadBody::Simple)).chain(heads)
}

fn main() {
    common::process::keep_memory();
    let options = Options::from_args();
    tch::set_num_threads(options.threads as i32);
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()
        .expect("the first thread pool");
    if options.wants("mlp") {
        options.put("mlp", common::mlp(), serde_json::json!({ "batch": BATCH }));
    }
    for &d in &options.dims {
        if options.wants("dsm") {
            options.put("dsm", common::dsm(d), serde_json::json!({ "batch": BATCH, "d": d }));
        }
        if options.wants("lm") {
            for &rank in options.ranks.iter().filter(|r| **r <= d as i64) {
                let fields = serde_json::json!({ "batch": BATCH, "d": d, "rank": rank });
                options.put("lm", common::lm(d, rank), fields);
            }
        }
    }
    for (rank, body) in unet_arms() {
        if options.wants("unet") && rank.is_none_or(|r| options.ranks.contains(&r)) {
            let name = rank.map(|_| if body == HeadBody::Simple { "simple" } else { "complex" });
            let fields =
                || serde_json::json!({ "batch": common::IMAGES, "rank": rank, "head": name });
            options.put("unet", common::unet_step(rank, body), fields());
            let times = (0..=options.repeats)
                .map(|_| common::unet_sampling(rank, body, options.steps, options.clock))
                .skip(1)
                .collect();
            options.print("unet sampling", "ms_per_step", times, fields());
        }
    }
    if options.wants("trial") {
        let steps = options.steps;
        let seconds = options
            .clock
            .time(|| common::trials_together(options.trials, steps, options.threads))
            .as_secs_f64();
        let per_training = seconds / options.trials as f64;
        let trials = options.trials;
        let fields = serde_json::json!({
            "n": 1000, "steps": steps, "trials": trials, "seconds": seconds,
        });
        options.print("trial", "s_per_training", vec![per_training], fields);
    }
}
