//! The diffusion transformer against diffusers and against the published formulas: references by
//! tests/reference/dit.py (diffusers 0.42.1, torch 2.15.0).

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use tweedie::autoencoder::Autoencoder;
use tweedie::choice::Choice;
use tweedie::covariance::{BetaTilde, Interpolated, Reverse};
use tweedie::density::{Density, SampleOptions};
use tweedie::model::{
    Backbone, Base, Denoiser, Dit, DitConfig, Guidance, Guided, GuidedCovariance, HeadConfig,
    HeadTrunk, Mode, ModelConfig, NetworkConfig, PRESETS, Precision, Prediction, Structure,
};
use tweedie::noise::{Noise, Seed};
use tweedie::query::{Coefficient, Condition, Query, Times};
use tweedie::run::{
    Run, export, import, import_dit_checkpoint, read_dit, read_dit_checkpoint, write_dit,
};
use tweedie::sample::{Ancestral, LastStep, Step};
use tweedie::schedule::Vp;

/// With variances and in several files, of an ε alone, and the published network.
const NAMES: [&str; 2] = ["patch-2", "patch-4"];
const ORIGINAL: &str = "original";
/// Attention heads of the published network's reference, which its file does not say.
const HEADS: Option<i64> = Some(2);

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/dit").join(name)
}

fn checkpoint() -> PathBuf {
    folder(ORIGINAL).join("checkpoint.pt")
}

/// A reference's images, positions, classes and outputs.
struct Reference {
    sample: Tensor,
    position: Coefficient,
    /// The times of the positions among 1000 steps.
    times: Times,
    classes: Tensor,
    output: Tensor,
}

fn reference(name: &str) -> Reference {
    let tensors = Tensor::read_safetensors(folder(name).join("reference.safetensors")).unwrap();
    let of = |name: &str| tensors.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone();
    let steps = Vec::<i64>::try_from(of("timestep")).unwrap();
    Reference {
        sample: of("sample"),
        position: Coefficient::of_rows(&of("timestep")),
        times: Times::each(steps.iter().map(|&i| (i + 1) as f64 / 1000.0).collect()),
        classes: of("class_labels"),
        output: of("output"),
    }
}

impl Reference {
    /// The relative error of a network's outputs, those of its head after its ε.
    fn error(&self, net: &Dit) -> f64 {
        let mode = Mode::default();
        let (noise, head) =
            net.images(&self.sample, &self.position, Some(&self.classes), mode, true);
        let ours = head.map_or(noise.shallow_clone(), |head| Tensor::cat(&[noise, head], 1));
        assert_eq!(ours.size(), self.output.size());
        gap(&ours, &self.output)
    }

    /// That of a run's ε̂.
    fn error_of_run(&self, run: &Run) -> f64 {
        // the number after the classes is the null class
        let known = run.model.classes();
        let class = |&c: &i64| if c == known { Condition::NULL } else { c as u32 };
        let classes: Vec<u32> =
            Vec::<i64>::try_from(&self.classes).unwrap().iter().map(class).collect();
        let condition = Condition::classes(&classes);
        let x = self.sample.flatten(1, 3);
        let q = Query::new(&x, &self.times);
        let channels = self.sample.size()[1];
        let theirs = self.output.narrow(1, 0, channels).flatten(1, 3);
        gap(&run.model.noise(&q.given(Some(&condition))), &theirs)
    }
}

/// Copies the files of a folder into another.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Imported networks compute what diffusers computes, to 1e-5 in f32, variances being a head's, and
/// still do after an export of the score.
#[test]
fn equals_diffusers() {
    for name in NAMES {
        let of = reference(name);
        let net = read_dit(&folder(name), Device::Cpu).unwrap();
        let error = of.error(&net);
        println!("{name}: {error:.1e}");
        assert!(error < 1e-5, "{name}: {error}");
        // the frequencies, an epsilon and the classes matter
        for (other, least) in [
            (DitConfig { frequency_shift: 0.0, ..net.config().clone() }, 1e-3),
            (DitConfig { mlp_norm_epsilon: 1e-2, ..net.config().clone() }, 1e-5),
        ] {
            let head = i64::from(net.parameters().size() > net.score_size());
            let other = other.init(head, Device::Cpu, Seed(0)).unwrap();
            other.parameters().assign(net.parameters().flat());
            assert!(of.error(&other) > least, "{name}: {}", of.error(&other));
        }
        let null = Tensor::full([2], net.config().classes, (Kind::Int64, Device::Cpu));
        assert!(Reference { classes: null, ..reference(name) }.error(&net) > 1e-3, "{name}");

        let dir = tempfile::tempdir().unwrap();
        write_dit(&net, dir.path()).unwrap();
        let again = read_dit(dir.path(), Device::Cpu).unwrap();
        assert_eq!(again.config(), net.config());
        let score = net.parameters().flat().narrow(0, 0, net.score_size());
        assert_eq!(again.parameters().flat(), &score);
    }
}

/// A published checkpoint, whole as its training saves it or its weights alone as safetensors,
/// computes what the formulas do, to 1e-5 in f32: `ema`, not `model`.
#[test]
fn equals_the_published_network() {
    let of = reference(ORIGINAL);
    let net = read_dit_checkpoint(&checkpoint(), HEADS, Device::Cpu).unwrap();
    let error = of.error(&net);
    println!("original: {error:.1e}");
    assert!(error < 1e-5, "{error}");
    assert_eq!((net.config().frequency_shift, net.config().classes), (0.0, 3));
    let refused = read_dit_checkpoint(&checkpoint(), None, Device::Cpu).unwrap_err().to_string();
    assert!(refused.contains("width 8") && refused.contains("heads"), "{refused}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ema.safetensors");
    let tensors = tweedie::data::read_weights(checkpoint()).unwrap();
    let write = |change: &dyn Fn(&str, &Tensor) -> Option<Tensor>| {
        let kept: Vec<(&str, Tensor)> =
            tensors.iter().filter_map(|(name, x)| Some((&**name, change(name, x)?))).collect();
        Tensor::write_safetensors(&kept, &file).unwrap();
        read_dit_checkpoint(&file, HEADS, Device::Cpu)
    };
    let same = |_: &str, x: &Tensor| Some(x.shallow_clone());
    assert!(of.error(&write(&same).unwrap()) < 1e-5);
    // of the ε alone
    let of_score = |name: &str, x: &Tensor| {
        if !name.starts_with("final_layer.linear") {
            return Some(x.shallow_clone());
        }
        let score = x.view([4, 4, -1]).narrow(1, 0, 2);
        let shape = if x.dim() == 2 { vec![8, 8] } else { vec![8] };
        Some(score.reshape(&shape[..]))
    };
    let net = write(&of_score).unwrap();
    let alone = Reference { output: of.output.narrow(1, 0, 2), ..of };
    assert!(alone.error(&net) < 1e-5 && net.parameters().size() == net.score_size());

    type Change<'a> = &'a dyn Fn(&str, &Tensor) -> Option<Tensor>;
    let with = |wanted: &'static str, change: fn(&Tensor) -> Option<Tensor>| {
        move |name: &str, x: &Tensor| {
            if name == wanted { change(x) } else { Some(x.shallow_clone()) }
        }
    };
    let moved = with("pos_embed", |x| Some(x + 0.01));
    let cut = with("pos_embed", |x| Some(x.narrow(1, 0, 8)));
    let gone = with("blocks.1.mlp.fc1.bias", |_| None);
    let wide = with("blocks.0.mlp.fc1.weight", |x| Some(Tensor::cat(&[x, x], 0)));
    let wrong: [(Change, &str); 4] =
        [(&moved, "other positions"), (&cut, "no square"), (&gone, "fc1.bias"), (&wide, "shape")];
    for (change, what) in wrong {
        let message = write(change).unwrap_err().to_string();
        assert!(message.contains(what), "no '{what}' in: {message}");
    }
}

/// What of a configuration cannot be honoured is refused by its name, and so are blocks of which
/// each embeds the time in its own way.
#[test]
fn refuses_what_it_cannot_compute() {
    let dir = tempfile::tempdir().unwrap();
    copy(&folder("patch-4"), dir.path());
    let path = dir.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    for (old, new, what) in [
        ("\"dropout\": 0.0", "\"dropout\": 0.1", "dropout 0.1"),
        ("\"attention_bias\": true", "\"attention_bias\": false", "attention_bias"),
        ("gelu-approximate", "geglu", "activation_fn geglu"),
        ("ada_norm_zero", "ada_norm_single", "norm_type ada_norm_single"),
        ("affine\": false", "affine\": true", "norm_elementwise_affine"),
        ("attention\": false", "attention\": true", "upcast_attention"),
        ("\"num_embeds_ada_norm\": 2", "\"num_embeds_ada_norm\": null", "num_embeds_ada_norm"),
        ("\"num_embeds_ada_norm\": 2", "\"num_embeds_ada_norm\": 4", "embedding_table"),
        ("\"out_channels\": null", "\"out_channels\": 4", "3 channels in, 4 out"),
        ("\"num_layers\": 1", "\"num_layers\": 2", "transformer_blocks.1"),
        ("\"sample_size\": 16", "\"sample_size\": 18", "patch"),
        ("DiTTransformer2DModel", "PixArtTransformer2DModel", "PixArtTransformer2DModel"),
    ] {
        let changed = config.replacen(old, new, 1);
        assert_ne!(changed, config, "{old}");
        std::fs::write(&path, changed).unwrap();
        let message = read_dit(dir.path(), Device::Cpu).unwrap_err().to_string();
        assert!(message.contains(what), "no '{what}' in: {message}");
    }
    // as facebook/DiT-XL-2-256 calls it
    let old = config.replacen("DiTTransformer2DModel", "Transformer2DModel", 1);
    std::fs::write(&path, old).unwrap();
    read_dit(dir.path(), Device::Cpu).unwrap();

    let dir = tempfile::tempdir().unwrap();
    copy(&folder("patch-2"), dir.path());
    let changed = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias";
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("-of-") {
            let tensors = Tensor::read_safetensors(&path).unwrap();
            let other = tensors.into_iter().map(|(name, x)| match name == changed {
                true => (name, x + 1.0),
                false => (name, x),
            });
            Tensor::write_safetensors(&other.collect::<Vec<_>>(), &path).unwrap();
        }
    }
    let message = read_dit(dir.path(), Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("each in its own way"), "{message}");
}

/// A `DiTPipeline` becomes a run of latents whose ε̂ at step `i`, `t = (i+1)/1000`, is what
/// diffusers computes, with its classes' names and its variances as a head; an export is the same
/// pipeline again.
#[test]
fn a_pipeline_is_a_run_of_latents() {
    let of = reference("patch-2");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    copy(&folder("patch-2"), &at("pipe/transformer"));
    std::fs::create_dir_all(at("pipe/scheduler")).unwrap();
    let index = |labels: &str| {
        let text = format!("{{\"_class_name\": \"DiTPipeline\", \"id2label\": {labels}}}");
        std::fs::write(at("pipe/model_index.json"), text).unwrap();
    };
    let scheduler = |fields: &str| {
        let text = format!("{{\"_class_name\": \"DDIMScheduler\"{fields}}}");
        std::fs::write(at("pipe/scheduler/scheduler_config.json"), text).unwrap();
    };
    scheduler("");
    index("{\"0\": \"tench\"}");
    let refused = import(&at("pipe"), None, &at("run"), Device::Cpu).unwrap_err().to_string();
    assert!(refused.contains("names 1 classes of 5") && !at("run").exists(), "{refused}");
    let names = ["tench, Tinca tinca", "goldfish", "crane", "hen", "crane"];
    let labels: std::collections::BTreeMap<usize, &str> = names.into_iter().enumerate().collect();
    index(&serde_json::to_string(&labels).unwrap());
    let remark = import(&at("pipe"), None, &at("run"), Device::Cpu).unwrap().unwrap();
    for part in ["learned_range", "4 x 8 x 8", "can be sampled alone"] {
        assert!(remark.contains(part), "no '{part}' in: {remark}");
    }
    let run = Run::load(at("run"), Device::Cpu).unwrap();
    assert!(of.error_of_run(&run) < 1e-5, "{}", of.error_of_run(&run));
    assert_eq!((&run.data.classes[..], run.data.image), (&names.map(String::from)[..], None));
    assert!(run.data.remarks[0].contains("never of pixels"), "{:?}", run.data.remarks);
    assert_eq!((run.data.names().len(), run.data.scaling.level_columns().len()), (256, 0));

    export(&run, &at("exported")).unwrap();
    import(&at("exported"), None, &at("again"), Device::Cpu).unwrap();
    let again = Run::load(at("again"), Device::Cpu).unwrap();
    assert_eq!(
        (&again.config.model, &again.config.schedule, &again.data.classes),
        (&run.config.model, &run.config.schedule, &run.data.classes)
    );
    assert_eq!(again.model.parameters().flat(), run.model.parameters().flat());
    assert!(of.error_of_run(&again) < 1e-5);
}

/// Samples under guidance at scale 4 are those of a `DiTPipeline`, which guides all channels, and of
/// the published sampler, which guides three; and so are the mean and the variance of an ancestral
/// step with the network's own variances, which are the class's.
#[test]
fn guided_steps_equal_a_pipelines() {
    let tensors = Tensor::read_safetensors(folder("guided.safetensors")).unwrap();
    let of = |name: &str| tensors.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone();
    let dir = tempfile::tempdir().unwrap();
    import(&folder("patch-2"), None, &dir.path().join("run"), Device::Cpu).unwrap();
    let run = Run::load(dir.path().join("run"), Device::Cpu).unwrap();
    let classes: Vec<u32> =
        Vec::<i64>::try_from(of("class_labels")).unwrap().into_iter().map(|c| c as u32).collect();
    let condition = Condition::classes(&classes);
    let rows = |name: &str| of(name).flatten(1, 3);
    let guided = |channels: i64| {
        let guidance = Guidance {
            scale: 4.0,
            covariance: GuidedCovariance::Conditional,
            columns: Some(channels * 64),
        };
        Guided::new(&run.model, guidance)
    };
    let mut streams = Noise::new(Seed(0), 0..2);
    for (name, channels) in [("latents", 4), ("of_three", 3)] {
        let model = guided(channels);
        let step = Ancestral::new(&model, BetaTilde, 0.0, LastStep::Mean).unwrap();
        let mut x = rows("noise");
        // diffusers' timesteps 750, 500, 250 and 0
        for pair in [0.751, 0.501, 0.251, 0.001, 0.0].windows(2) {
            let at = Times::All(pair[0]);
            let q = Query::new(&x, &at).given(Some(&condition));
            x = tch::no_grad(|| step.step(&q, pair[1], &mut streams));
        }
        let error = gap(&x, &rows(name));
        println!("{name}: {error:.1e}");
        assert!(error < 1e-5, "{name}: {error}");
    }
    let model = guided(3);
    let reverse = Reverse::new(&model, Interpolated, 1.0).unwrap();
    let (x, t) = (rows("noise"), Times::All(0.501));
    let q = Query::new(&x, &t).given(Some(&condition));
    let found = tch::no_grad(|| reverse.at(&q, &Times::All(0.251), &mut streams));
    let errors = [gap(&found.mean, &rows("mean")), gap(&found.cov.diagonal(), &rows("variance"))];
    println!("an ancestral step's mean and variance: {errors:?}");
    assert!(errors.iter().all(|error| *error < 1e-5), "{errors:?}");
}

/// With its autoencoder a DiT is a run of that one's latents, which can be sampled under guidance
/// and decoded.
#[test]
fn a_transformer_of_an_autoencoders_latents() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/autoencoder/kl-plain");
    let vae = Autoencoder::read(path, Device::Cpu).unwrap();
    let of_shape = |shape| vae.of_shape(shape);
    let remark = import(&folder("patch-4"), Some(&of_shape), &at("run"), Device::Cpu);
    let remark = remark.unwrap().unwrap();
    assert!(remark.contains("never of pixels") && !remark.contains("alone"), "{remark}");
    let run = Run::load(at("run"), Device::Cpu).unwrap();
    assert!(reference("patch-4").error_of_run(&run) < 1e-5);
    let of = run.data.latents.as_ref().unwrap();
    assert_eq!((run.data.image, of.digest.as_str()), (Some([3, 16, 16]), vae.digest()));
    let density = Density::load(at("run")).unwrap();
    let options = SampleOptions { steps: 2, guidance: Some(2.0), ..SampleOptions::default() };
    let samples = density.sample(2, &options).unwrap();
    let images = samples.decoded(&vae, None).unwrap();
    assert_eq!(images.image, Some(of.image));
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/autoencoder/tiny");
    let other = Autoencoder::read(other, Device::Cpu).unwrap();
    assert!(samples.decoded(&other, None).is_err());

    // exported and read with the same autoencoder, it is the same
    export(&run, &at("exported")).unwrap();
    import(&at("exported"), Some(&of_shape), &at("again"), Device::Cpu).unwrap();
    let again = Run::load(at("again"), Device::Cpu).unwrap();
    assert_eq!((again.data.latents, again.data.image), (run.data.latents, run.data.image));
}

/// A DiT on pixels alone is a run on images; a published checkpoint is one, too, or of latents, and
/// is not exported to diffusers, whose frequencies of time are others.
#[test]
fn networks_alone_are_runs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let remark = import(&folder("patch-4"), None, &at("run"), Device::Cpu).unwrap().unwrap();
    assert!(remark.contains("no scheduler_config.json"), "{remark}");
    let run = Run::load(at("run"), Device::Cpu).unwrap();
    assert!(reference("patch-4").error_of_run(&run) < 1e-5);
    assert_eq!((run.data.image, run.data.classes.len()), (Some([3, 16, 16]), 2));
    export(&run, &at("out")).unwrap();
    assert!(at("out/transformer/config.json").exists() && !at("out/model_index.json").exists());
    assert_eq!(import(&at("out"), None, &at("again"), Device::Cpu).unwrap(), None);
    let again = Run::load(at("again"), Device::Cpu).unwrap();
    assert_eq!(again.data.image, run.data.image);

    let remark =
        import_dit_checkpoint(&checkpoint(), HEADS, None, &at("latents"), Device::Cpu).unwrap();
    assert!(remark.unwrap().contains("linear schedule"));
    let run = Run::load(at("latents"), Device::Cpu).unwrap();
    assert!(reference(ORIGINAL).error_of_run(&run) < 1e-5);
    assert_eq!(run.data.image, None);
    let refused = export(&run, &at("refused")).unwrap_err().to_string();
    assert!(refused.contains("frequency_shift 0") && !at("refused").exists(), "{refused}");
}

fn gap(ours: &Tensor, theirs: &Tensor) -> f64 {
    ((ours - theirs).norm() / theirs.norm()).double_value(&[])
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

fn normal(seed: u64, rows: u64, columns: i64) -> Tensor {
    Noise::new(Seed(seed), 0..rows).normal(columns as usize, Kind::Float, Device::Cpu)
}

fn images(seed: u64, config: &DitConfig) -> Tensor {
    let [c, h, w] = config.shape;
    normal(seed, 2, config.dim()).view([2, c, h, w])
}

/// Positions of two images.
fn positions(first: f64, second: f64) -> Coefficient {
    Coefficient::of_rows(&Tensor::from_slice(&[first, second]))
}

fn tiny() -> DitConfig {
    DitConfig {
        shape: [2, 4, 8],
        patch: 2,
        width: 16,
        blocks: 2,
        heads: 2,
        head_width: 8,
        head_blocks: 1,
        ..DitConfig::default()
    }
}

/// The network with its parameters moved off the start.
fn moved(config: &DitConfig, head: i64) -> Dit {
    let net = config.init(head, Device::Cpu, Seed(1)).unwrap();
    let p = net.parameters();
    p.assign(&(p.flat() + normal(3, 1, p.size()).view(-1) * 0.1));
    net
}

/// ε̂ and every row of the head start at 0, but for the factors; every parameter then has a
/// gradient once they do not, but for classes and positions that no row has.
#[test]
fn starts_at_the_base_and_everything_is_trained() {
    for (trunk, classes) in
        [(HeadTrunk::Shared, 0), (HeadTrunk::Detached, 3), (HeadTrunk::Separate, 3)]
    {
        let config = DitConfig { head_trunk: trunk, classes, ..tiny() };
        let net = config.init(3, Device::Cpu, Seed(1)).unwrap();
        assert_eq!(config.size(3).unwrap(), net.parameters().size());
        let x = images(2, &config);
        let at = positions(3.0, 500.0);
        let classes = (classes > 0).then(|| Tensor::from_slice(&[0i64, 2]));
        let run = |net: &Dit| net.images(&x, &at, classes.as_ref(), Mode::default(), true);
        let (noise, head) = run(&net);
        let head = head.unwrap();
        assert_eq!((noise.size(), head.size()), (vec![2, 2, 4, 8], vec![2, 6, 4, 8]));
        assert_eq!((largest(&noise), largest(&head.narrow(1, 0, 2))), (0.0, 0.0));
        for channel in 2..6 {
            let factors = largest(&head.select(1, channel));
            assert!(factors > 0.0 && factors < 1.0, "{factors}");
        }

        let net = moved(&config, 3);
        let p = net.parameters();
        let (noise, head) = run(&net);
        let loss = noise.square().sum(Kind::Float) + head.unwrap().square().sum(Kind::Float);
        let gradient = p.gradient(&loss, 0, p.size());
        for e in p.entries() {
            let count: i64 = e.shape.iter().product();
            let own = gradient.narrow(0, e.offset, count);
            assert!(largest(&own) > 0.0, "{}", e.name);
        }
    }
}

/// Activations that are computed again give the same gradients but for the order of sums.
#[test]
fn activations_are_computed_again() {
    let net = moved(&tiny(), 3);
    let (p, x) = (net.parameters(), images(2, &tiny()));
    let gradient = |recompute| {
        let mode = Mode { recompute, ..Mode::default() };
        let (noise, head) = net.images(&x, &positions(3.0, 500.0), None, mode, true);
        let loss = noise.square().sum(Kind::Float) + head.unwrap().sin().sum(Kind::Float);
        p.gradient(&loss, 0, p.size())
    };
    let kept = gradient(false);
    let gap = largest(&(&kept - gradient(true)));
    assert!(gap < 1e-6 * largest(&kept), "{gap:e}");
}

/// At the start every block is the identity: the last features are the patches' embedding, so that
/// with a last layer that is not 0 an output depends on its own patch alone; once the gates open,
/// on all.
#[test]
fn blocks_start_as_the_identity() {
    let config = tiny();
    let net = config.init(0, Device::Cpu, Seed(1)).unwrap();
    let p = net.parameters();
    let of_last = |name: &str| name == "final_layer.linear.weight";
    let last = p.entries().iter().position(|e| of_last(&e.name)).unwrap();
    let values = normal(4, 8, 16);
    tch::no_grad(|| p.get(last).shallow_clone().copy_(&values));
    let x = images(2, &config);
    let other = x.copy();
    // a pixel of the last patch
    let _ = other.narrow(2, 3, 1).narrow(3, 7, 1).fill_(5.0);
    let change = |net: &Dit| {
        let run = |x: &Tensor| net.images(x, &positions(3.0, 9.0), None, Mode::default(), false).0;
        let change = (run(&x) - run(&other)).abs();
        let own = largest(&change.narrow(2, 2, 2).narrow(3, 6, 2));
        (own, largest(&change.narrow(2, 0, 2)))
    };
    let (own, others) = change(&net);
    assert!(own > 1e-2 && others == 0.0, "{own}, {others}");
    let (own, others) = change(&moved(&config, 0));
    assert!(own > 1e-2 && others > 1e-4, "{own}, {others}");
}

/// The head's gradient reaches the score's parameters on a shared trunk only.
#[test]
fn only_a_shared_trunk_is_trained_by_the_head() {
    for (trunk, reached) in
        [(HeadTrunk::Shared, true), (HeadTrunk::Detached, false), (HeadTrunk::Separate, false)]
    {
        let config = DitConfig { head_trunk: trunk, classes: 2, ..tiny() };
        let net = moved(&config, 2);
        let (at, classes) = (positions(3.0, 500.0), Tensor::from_slice(&[0i64, 1]));
        let (_, head) = net.images(&images(2, &config), &at, Some(&classes), Mode::default(), true);
        let loss = head.unwrap().square().sum(Kind::Float);
        let gradient = net.parameters().gradient(&loss, 0, net.score_size());
        assert_eq!(largest(&gradient) > 0.0, reached, "{trunk:?}");
    }
}

/// Rows in, rows out: the flat form is the image form, with the position of a time in `[0, 1]`
/// among 1000 steps; equal times, which are embedded once, give what unequal ones do.
#[test]
fn rows_are_images_channel_by_channel() {
    let config = tiny();
    let net = moved(&config, 2);
    let x = images(5, &config);
    let flat = x.flatten(1, 3);
    let of = |times: &Times| {
        net.forward(&Query::new(&flat, times), &Vp::default(), Mode::default(), true)
    };
    let rows = of(&Times::each(vec![0.004, 1.0]));
    let (noise, head) = net.images(&x, &positions(3.0, 999.0), None, Mode::default(), true);
    assert!(gap(&rows.noise, &noise.flatten(1, 3)) < 1e-6);
    assert!(gap(&rows.head.unwrap(), &head.unwrap().flatten(1, 3)) < 1e-6);
    let equal = of(&Times::All(0.004)).noise;
    assert!(gap(&equal.narrow(0, 0, 1), &rows.noise.narrow(0, 0, 1)) < 1e-5);
}

/// The null class is none of the others, and rows may have it beside classes.
#[test]
fn rows_have_the_null_class_beside_others() {
    let config = DitConfig { classes: 3, null_class: true, ..tiny() };
    let net = moved(&config, 1);
    let table = |e: &&tweedie::model::Entry| e.name == "y_embedder.embedding_table.weight";
    assert_eq!(net.parameters().entries().iter().find(table).unwrap().shape, [4, 16]);
    let (flat, times) = (images(5, &config).flatten(1, 3), Times::All(0.3));
    let of = |classes: [u32; 2]| {
        let condition = Condition::classes(&classes);
        let q = Query::new(&flat, &times);
        net.forward(&q.given(Some(&condition)), &Vp::default(), Mode::default(), true).noise
    };
    let null = of([Condition::NULL; 2]);
    let mixed = of([1, Condition::NULL]);
    assert!(gap(&mixed.select(0, 1), &null.select(0, 1)) < 1e-6);
    assert!(gap(&mixed.select(0, 0), &null.select(0, 0)) > 1e-3);
    // of a network without classes nothing is looked up
    let plain = moved(&tiny(), 1);
    let q = Query::new(&flat, &times);
    plain.forward(&q, &Vp::default(), Mode::default(), true);
}

/// A model on it starts as its base, and its head has any rank; `G` in full is refused.
#[test]
fn a_model_starts_as_its_base() {
    let schedule = || std::sync::Arc::new(Vp::default());
    for rank in [0, 3] {
        let head =
            Some(HeadConfig { structure: Structure::LowRank(rank), ..HeadConfig::default() });
        let network = NetworkConfig::Dit(tiny());
        let config = ModelConfig { network, head, ..ModelConfig::default() };
        let init = |base| config.init(base, schedule(), Device::Cpu, Seed(0));
        let model = init(Base::standard(64)).unwrap();
        let (x, times) = (normal(1, 2, 64), Times::All(0.3));
        let q = Query::new(&x, &times);
        let moments = model.moments(&q);
        let sigma = tweedie::schedule::Schedule::sigma(&Vp::default(), 0.3);
        assert!(gap(&moments.noise, &(&x * sigma)) < 1e-5);
        // the base's G is (1 − σ²) I, which small random factors of the head raise
        let g = moments.cov.diagonal();
        let expected = 1.0 - sigma * sigma;
        let least = g.min().double_value(&[]) / expected;
        let most = g.max().double_value(&[]) / expected;
        assert!((least - 1.0).abs() < 1e-3 && most < 1.2 && most >= least, "{least} {most}");
        assert!(init(Base::standard(63)).err().unwrap().to_string().contains("shape"));
    }
    let head = Some(HeadConfig { structure: Structure::Full, ..HeadConfig::default() });
    let network = NetworkConfig::Dit(tiny());
    let prediction = Prediction::Epsilon;
    let config = ModelConfig { network, head, prediction, ..ModelConfig::default() };
    let refused = config.init(Base::standard(64), schedule(), Device::Cpu, Seed(0)).err().unwrap();
    assert!(refused.to_string().contains("full for images"), "{refused}");
}

/// bf16 products, as in autocast: outputs within bf16's 8 bits, gradients in f32 and close in
/// direction.
#[test]
fn half_precision_is_close() {
    let config = DitConfig { classes: 2, ..tiny() };
    let net = moved(&config, 3);
    let p = net.parameters();
    let x = images(5, &config);
    let run = |precision| {
        let mode = Mode { precision, ..Mode::default() };
        let classes = Tensor::from_slice(&[0i64, 1]);
        let at = positions(3.0, 700.0);
        let (noise, head) = net.images(&x, &at, Some(&classes), mode, true);
        let outputs = Tensor::cat(&[noise.flatten(0, -1), head.unwrap().flatten(0, -1)], 0);
        let gradient = p.gradient(&outputs.square().sum(Kind::Float), 0, p.size());
        (outputs.detach(), gradient)
    };
    let exact = run(Precision::F32);
    let half = run(Precision::Bf16);
    assert_eq!((half.0.kind(), half.1.kind()), (Kind::Float, Kind::Float));
    for (half, exact) in [(&half.0, &exact.0), (&half.1, &exact.1)] {
        let error = gap(half, exact);
        assert!(error > 1e-5 && error < 0.03, "{error}");
    }
}

/// A network that cannot be is an error that names the field.
#[test]
fn impossible_networks_name_their_field() {
    let wrong = [
        (DitConfig { shape: [1, 6, 7], ..tiny() }, "patch", "2 x 2 for images of 6 x 7 pixels"),
        (DitConfig { shape: [0, 4, 4], ..tiny() }, "shape", ""),
        (DitConfig { patch: 0, ..tiny() }, "patch", ""),
        (DitConfig { width: 18, ..tiny() }, "width", "multiple of 4"),
        (DitConfig { heads: 3, ..tiny() }, "heads", "3 does not divide width, 16"),
        (DitConfig { blocks: 0, ..tiny() }, "blocks", ""),
        (DitConfig { classes: -1, ..tiny() }, "classes", ""),
        (DitConfig { norm_epsilon: 0.0, ..tiny() }, "norm_epsilon", ""),
        (DitConfig { frequency_shift: 128.0, ..tiny() }, "frequency_shift", ""),
        (
            DitConfig { head_trunk: HeadTrunk::Separate, head_width: 6, ..tiny() },
            "head_width",
            "multiple of 4",
        ),
        (
            DitConfig { head_trunk: HeadTrunk::Separate, head_width: 12, heads: 8, ..tiny() },
            "heads",
            "head_width, 12",
        ),
    ];
    for (config, field, what) in wrong {
        let message = config.init(0, Device::Cpu, Seed(0)).unwrap_err().to_string();
        let path = format!("model.network.{field}");
        assert!(message.contains(&path) && message.contains(what), "{path}: {message}");
    }
}

/// Numbers of parameters for latents of 32×32×4 with 1000 classes and learned variances: of
/// DiT-XL/2 the 675 129 632 that the published training prints, and to a million the others in the
/// paper's table of them. Both count the positions, which are fixed.
#[test]
fn presets_have_the_published_sizes() {
    let size = |name: &str| {
        let Some(NetworkConfig::Dit(config)) = NetworkConfig::of_name(name) else { panic!() };
        let config = DitConfig { shape: [4, 32, 32], classes: 1000, null_class: true, ..config };
        // the variances are a head here, which has a modulation of its own
        let variances = 4 * config.patch.pow(2) * (config.width + 1);
        config.size(0).unwrap() + variances + config.width * (32 / config.patch).pow(2)
    };
    assert_eq!(size("dit-xl/2"), 675_129_632);
    for (name, millions) in [("dit-s/2", 33.0), ("dit-b/4", 130.0), ("dit-l/2", 458.0)] {
        let size = size(name) as f64 / 1e6;
        assert!((size - millions).abs() < 1.0, "{name}: {size}");
    }
    for preset in &PRESETS {
        let network = NetworkConfig::of_name(preset.name).unwrap();
        assert!(network.image().is_some() && network.classes() == 0, "{}", preset.name);
        let Some(size) = preset.name.strip_prefix("dit-") else { continue };
        let NetworkConfig::Dit(config) = network else { panic!("{}", preset.name) };
        for shape in [[1, 32, 32], [3, 64, 64]] {
            for head_trunk in HeadTrunk::all() {
                DitConfig { shape, head_trunk, ..config.clone() }.check().unwrap();
            }
        }
        let tiny = DitConfig { shape: [1, 28, 28], ..config };
        assert_eq!(tiny.check().is_ok(), !size.ends_with("/8"), "{size}");
    }
}
