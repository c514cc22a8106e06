//! The U-Net against diffusers and score_sde: references by tests/reference/unet.py (diffusers
//! 0.42.1, torch 2.11.0) and tests/reference/ddpmpp.py (torch 2.11.0).

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use tweedie::covariance::{BetaTilde, Interpolated, Reverse};
use tweedie::likelihood::{Divergence, LogLikelihood, ProbabilityFlow};
use tweedie::model::{
    Backbone, Denoiser, HeadBody, HeadTrunk, Mode, PRESETS, Position, Precision, Resample,
    UNetConfig,
};
use tweedie::noise::{Noise, Seed};
use tweedie::query::{Batch, Coefficient, Condition, Query, Times};
use tweedie::run::{Run, export, import, read_unet, write_unet};
use tweedie::schedule::Vp;

const NAMES: [&str; 4] = ["plain", "attention", "classes", "odd-widths"];
/// Twice as many channels out as in.
const WITH_VARIANCES: &str = "learned-range";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/unet").join(name)
}

/// A reference's tensors by name.
fn reference(name: &str) -> impl Fn(&str) -> Option<Tensor> {
    let tensors = Tensor::read_safetensors(folder(name).join("reference.safetensors")).unwrap();
    move |name| tensors.iter().find(|(n, _)| n == name).map(|(_, x)| x.shallow_clone())
}

fn gap(ours: &Tensor, theirs: &Tensor) -> f64 {
    ((ours - theirs).norm() / theirs.norm()).double_value(&[])
}

fn images(seed: u64, config: &UNetConfig) -> Tensor {
    let [c, h, w] = config.shape;
    Noise::new(Seed(seed), 0..2)
        .normal(config.dim() as usize, Kind::Float, Device::Cpu)
        .view([2, c, h, w])
}

/// Positions of two images.
fn positions(first: f64, second: f64) -> Coefficient {
    Coefficient::of_rows(&Tensor::from_slice(&[first, second]))
}

/// Imported networks compute what diffusers computes, to 1e-5 in f32, and still do after an export.
#[test]
fn equals_diffusers() {
    for name in NAMES {
        let of = reference(name);
        let (sample, output) = (of("sample").unwrap(), of("output").unwrap());
        let position = Coefficient::of_rows(&of("timestep").unwrap());
        let classes = of("class_labels");
        let net = read_unet(&folder(name), Device::Cpu).unwrap();
        let ours = net.images(&sample, &position, classes.as_ref(), Mode::default(), true);
        assert!(ours.1.is_none(), "{name}: diffusers has no head");
        let error = gap(&ours.0, &output);
        assert!(error < 1e-5, "{name}: {error}");

        let dir = tempfile::tempdir().unwrap();
        write_unet(&net, dir.path()).unwrap();
        let again = read_unet(dir.path(), Device::Cpu).unwrap();
        assert_eq!(again.config(), net.config());
        assert_eq!(again.parameters().flat(), net.parameters().flat());
    }
}

/// DDPM++ at small widths computes what the network of ScoreFlow computes at 999 t, to 1e-5 in f32,
/// whether its residual blocks average and repeat pixels, as in ScoreFlow's configurations, or
/// filter them, as in score_sde's NCSN++. So it does not as the discrete process counts steps, or
/// with the other resampling.
#[test]
fn equals_score_sde() {
    for (name, size, attention, resample, other) in [
        ("naive", 16, vec![false, true, false], Resample::Residual, Resample::ResidualFir),
        ("fir", 8, vec![true, false], Resample::ResidualFir, Resample::Residual),
    ] {
        let file = folder("../ddpmpp").join(format!("{name}.safetensors"));
        let tensors = Tensor::read_safetensors(file).unwrap();
        let of = |name: &str| {
            let found = tensors.iter().find(|(n, _)| n == name);
            found.unwrap_or_else(|| panic!("no {name}")).1.shallow_clone()
        };
        let preset = UNetConfig::ddpm_plus_plus([3, size, size], 1);
        let widths = vec![8; attention.len()];
        let config = UNetConfig { widths, attention, resample, ..preset };
        let (x, noise) = (of("x").flatten(1, 3), of("noise").flatten(1, 3));
        let times = Times::each((&of("t")).try_into().unwrap());
        let error = |config: &UNetConfig| {
            let net = config.init(0, Device::Cpu, Seed(0)).unwrap();
            let p = net.parameters();
            assert_eq!(p.entries().len() + 3, tensors.len(), "{name}");
            let flat: Vec<Tensor> = p
                .entries()
                .iter()
                .map(|entry| {
                    let values = of(&entry.name);
                    assert_eq!(values.size(), entry.shape, "{}", entry.name);
                    values.view(-1)
                })
                .collect();
            p.assign(&Tensor::cat(&flat, 0));
            let q = Query::new(&x, &times);
            gap(&net.forward(&q, &Vp::default(), Mode::default(), false).noise, &noise)
        };
        let own = error(&config);
        println!("{name}: {own:.1e}");
        assert!(own < 1e-5, "{name}: {own}");
        let steps = UNetConfig { position: Position::Step, ..config.clone() };
        assert!(error(&steps) > 1e-3, "{name}");
        assert!(error(&UNetConfig { resample: other, ..config }) > 1e-3, "{name}");
    }
}

/// The second half of the outputs of a network with variances is its head's.
#[test]
fn variances_of_diffusers_are_a_head() {
    let of = reference(WITH_VARIANCES);
    let position = Coefficient::of_rows(&of("timestep").unwrap());
    let net = read_unet(&folder(WITH_VARIANCES), Device::Cpu).unwrap();
    let (noise, head) = net.images(&of("sample").unwrap(), &position, None, Mode::default(), true);
    let ours = Tensor::cat(&[noise, head.unwrap()], 1);
    let error = gap(&ours, &of("output").unwrap());
    assert!(error < 1e-5, "{error}");
}

/// An imported model with variances steps as diffusers' DDPMScheduler does with `learned_range`,
/// from the same noise, to the next step and to one far away; an export keeps the variances.
#[test]
fn imported_variances_step_as_in_diffusers() {
    let of = reference(WITH_VARIANCES);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("pipe/unet")).unwrap();
    std::fs::create_dir_all(at("pipe/scheduler")).unwrap();
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        std::fs::copy(folder(WITH_VARIANCES).join(file), at("pipe/unet").join(file)).unwrap();
    }
    std::fs::write(at("pipe/model_index.json"), "{\"_class_name\": \"DDPMPipeline\"}").unwrap();
    let scheduler = |variance: &str| {
        let text =
            format!("{{\"_class_name\": \"DDPMScheduler\", \"variance_type\": \"{variance}\"}}");
        std::fs::write(at("pipe/scheduler/scheduler_config.json"), text).unwrap();
    };
    scheduler("learned");
    let refused = import(&at("pipe"), None, &at("refused"), Device::Cpu).unwrap_err().to_string();
    assert!(refused.contains("variance_type learned"), "{refused}");
    scheduler("fixed_small");
    let remark = import(&at("pipe"), None, &at("assumed"), Device::Cpu).unwrap();
    assert!(remark.is_some_and(|remark| remark.contains("learned_range")));
    scheduler("learned_range");
    assert_eq!(import(&at("pipe"), None, &at("run"), Device::Cpu).unwrap(), None);
    let run = Run::load(at("run"), Device::Cpu).unwrap();
    export(&run, &at("exported")).unwrap();
    import(&at("exported"), None, &at("again"), Device::Cpu).unwrap();

    let (sample, noise) = (of("sample").unwrap().flatten(1, 3), of("noise").unwrap().flatten(1, 3));
    let (to, from) = (Times::each(vec![0.003, 0.871]), Times::each(vec![0.004, 0.872]));
    for run in [run, Run::load(at("again"), Device::Cpu).unwrap()] {
        let reverse = Reverse::new(&run.model, Interpolated, 1.0).unwrap();
        let streams = || Noise::new(Seed(0), 0..2);
        let next = reverse.at(&Query::new(&sample, &from), &to, &mut streams()).sample(&noise);
        let far = reverse.at(
            &Query::new(&sample.narrow(0, 1, 1), &Times::All(0.872)),
            &Times::All(0.772),
            &mut Noise::new(Seed(0), 0..1),
        );
        let far = far.sample(&noise.narrow(0, 1, 1));
        for (name, ours) in [("next", next), ("far", far)] {
            let theirs = of(name).unwrap().flatten(1, 3);
            let error = gap(&ours, &theirs);
            assert!(error < 1e-5, "{name}: {error}");
        }
    }
    let tilde = Run::load(at("again"), Device::Cpu).unwrap();
    let tilde = Reverse::new(&tilde.model, BetaTilde, 1.0).unwrap();
    let mut streams = Noise::new(Seed(0), 0..2);
    let other = tilde.at(&Query::new(&sample, &from), &to, &mut streams).sample(&noise);
    assert!(gap(&other, &of("next").unwrap().flatten(1, 3)) > 1e-4, "the variances matter");

    std::fs::copy(folder("plain").join("config.json"), at("pipe/unet/config.json")).unwrap();
    let weights = "diffusion_pytorch_model.safetensors";
    std::fs::copy(folder("plain").join(weights), at("pipe/unet").join(weights)).unwrap();
    let refused = import(&at("pipe"), None, &at("refused"), Device::Cpu).unwrap_err().to_string();
    assert!(refused.contains("without it") && !at("refused").exists(), "{refused}");
}

/// What cannot be read is refused with its reason.
#[test]
fn refuses_what_it_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    let at = |file: &str| dir.path().join(file);
    let refuse = |what: &str| {
        let message = read_unet(dir.path(), Device::Cpu).unwrap_err().to_string();
        assert!(message.contains(what), "no '{what}' in: {message}");
    };
    refuse("config.json");
    let config = std::fs::read_to_string(folder("plain").join("config.json")).unwrap();
    let weights =
        std::fs::read(folder("plain").join("diffusion_pytorch_model.safetensors")).unwrap();
    std::fs::write(at("config.json"), &config).unwrap();
    refuse("has no diffusion_pytorch_model.safetensors");
    std::fs::write(at("diffusion_pytorch_model.bin"), b"pickle").unwrap();
    refuse("pickle");
    std::fs::write(at("diffusion_pytorch_model.safetensors"), &weights[..weights.len() - 5])
        .unwrap();
    refuse("damaged or cut short");
    std::fs::write(at("diffusion_pytorch_model.safetensors"), &weights).unwrap();
    assert!(read_unet(dir.path(), Device::Cpu).is_ok());
    for (old, new, what) in [
        ("\"silu\"", "\"gelu\"", "the activation gelu"),
        ("\"positional\"", "\"fourier\"", "fourier time embedding"),
        ("\"sample_size\": 8", "\"sample_size\": 7", "7 x 7 pixels"),
        ("\"norm_num_groups\": 4", "\"norm_num_groups\": 5", "groups"),
        ("\"layers_per_block\": 1", "\"layers_per_block\": 2", "has no tensor"),
        ("UNet2DModel", "Transformer2DModel", "Transformer2DModel"),
        ("16\n", "24\n", "shape"),
        ("{", "", "config.json: is not the configuration"),
    ] {
        let changed = config.replacen(old, new, 1);
        assert_ne!(changed, config, "{old}");
        std::fs::write(at("config.json"), changed).unwrap();
        refuse(what);
    }
}

fn tiny() -> UNetConfig {
    UNetConfig {
        shape: [2, 4, 8],
        widths: vec![4, 8],
        attention: vec![false, true],
        groups: 2,
        head_widths: vec![4, 4],
        ..UNetConfig::default()
    }
}

/// ε̂ and every row of the head start at 0, but for the factors; every parameter then has a
/// gradient once they do not.
#[test]
fn starts_at_the_base_and_everything_is_trained() {
    for trunk in [HeadTrunk::Shared, HeadTrunk::Detached, HeadTrunk::Separate] {
        for body in [HeadBody::Simple, HeadBody::Complex] {
            let config = UNetConfig { head_trunk: trunk, head_body: body, rescale: true, ..tiny() };
            let net = config.init(3, Device::Cpu, Seed(1)).unwrap();
            let x = images(2, &config);
            let (noise, head) = net.images(&x, &positions(3.0, 500.0), None, Mode::default(), true);
            let head = head.unwrap();
            assert_eq!((noise.size(), head.size()), (vec![2, 2, 4, 8], vec![2, 6, 4, 8]));
            assert_eq!(noise.abs().max().double_value(&[]), 0.0);
            assert_eq!(head.narrow(1, 0, 2).abs().max().double_value(&[]), 0.0);
            let factors = head.narrow(1, 2, 4).abs().max().double_value(&[]);
            assert!(factors > 0.0 && factors < 1.0, "{factors}");

            let p = net.parameters();
            p.assign(
                &(p.flat()
                    + images(3, &UNetConfig { shape: [1, 1, p.size()], ..tiny() })
                        .select(0, 0)
                        .view(-1)
                        * 0.1),
            );
            let (noise, head) = net.images(&x, &positions(3.0, 500.0), None, Mode::default(), true);
            let loss = noise.square().sum(Kind::Float) + head.unwrap().square().sum(Kind::Float);
            let gradient = p.gradient(&loss, 0, p.size());
            for e in p.entries() {
                let count: i64 = e.shape.iter().product();
                let largest = gradient.narrow(0, e.offset, count).abs().max().double_value(&[]);
                // a key's bias moves all logits alike
                assert!(largest > 0.0 || e.name.ends_with("to_k.bias"), "{}", e.name);
            }
        }
    }
}

/// The head's gradient reaches the score's parameters on a shared trunk only.
#[test]
fn only_a_shared_trunk_is_trained_by_the_head() {
    for (trunk, reached) in
        [(HeadTrunk::Shared, true), (HeadTrunk::Detached, false), (HeadTrunk::Separate, false)]
    {
        let config = UNetConfig { head_trunk: trunk, ..tiny() };
        let net = config.init(2, Device::Cpu, Seed(1)).unwrap();
        let (_, head) =
            net.images(&images(2, &config), &positions(3.0, 500.0), None, Mode::default(), true);
        let loss = head.unwrap().square().sum(Kind::Float);
        let gradient = net.parameters().gradient(&loss, 0, net.score_size());
        assert_eq!(gradient.abs().max().double_value(&[]) > 0.0, reached, "{trunk:?}");
    }
}

/// A head alone is trained on features that attention leaves in channels-last order.
#[test]
fn a_head_is_trained_after_attention() {
    let config = UNetConfig { attention: vec![true, true], ..tiny() };
    let net = config.init(1, Device::Cpu, Seed(1)).unwrap();
    let p = net.parameters();
    p.assign(&(p.flat() + 0.05));
    let (_, head) =
        net.images(&images(2, &config), &positions(3.0, 500.0), None, Mode::default(), true);
    let loss = head.unwrap().square().sum(Kind::Float);
    let (score, all) = (net.score_size(), p.size());
    let alone = p.gradient(&loss, score, all - score);
    assert!(alone.abs().max().double_value(&[]) > 0.0);
}

/// Rows in, rows out: the flat form is the image form, with the position of a time in `[0, 1]`
/// among 1000 steps.
#[test]
fn rows_are_images_channel_by_channel() {
    let config = tiny();
    let net = config.init(2, Device::Cpu, Seed(4)).unwrap();
    let x = images(5, &config);
    let (flat, times) = (x.flatten(1, 3), Times::each(vec![0.004, 1.0]));
    let rows = net.forward(&Query::new(&flat, &times), &Vp::default(), Mode::default(), true);
    let (noise, head) = net.images(&x, &positions(3.0, 999.0), None, Mode::default(), true);
    assert_eq!(rows.noise, noise.flatten(1, 3));
    assert!(gap(&rows.head.unwrap(), &head.unwrap().flatten(1, 3)) < 1e-6);
}

/// Dropout acts in training only.
#[test]
fn drops_in_training_only() {
    let config = UNetConfig { dropout: 0.5, ..tiny() };
    let net = config.init(2, Device::Cpu, Seed(6)).unwrap();
    let p = net.parameters();
    p.assign(&(p.flat() + 0.05));
    let x = images(7, &config);
    let run = |dropout| {
        let mode = Mode { dropout, ..Mode::default() };
        net.images(&x, &positions(3.0, 500.0), None, mode, false).0
    };
    let still = run(None);
    assert_eq!(still, run(None));
    assert_ne!(run(Some(Seed(1))), run(Some(Seed(2))));
    assert_eq!(still, run(None));
}

/// A network that cannot be is an error that names the field.
#[test]
fn impossible_networks_name_their_field() {
    let wrong = [
        (UNetConfig { shape: [1, 6, 7], ..tiny() }, "shape"),
        (UNetConfig { widths: vec![], ..tiny() }, "widths"),
        (UNetConfig { attention: vec![true], ..tiny() }, "attention"),
        (UNetConfig { groups: 3, ..tiny() }, "groups"),
        (UNetConfig { groups: 8, group_channels: 3, ..tiny() }, "groups"),
        (UNetConfig { group_channels: -1, ..tiny() }, "group_channels"),
        (UNetConfig { head_dim: 3, ..tiny() }, "head_dim"),
        (UNetConfig { dropout: 1.0, ..tiny() }, "dropout"),
        (UNetConfig { blocks: 0, ..tiny() }, "blocks"),
        (
            UNetConfig { head_trunk: HeadTrunk::Separate, head_widths: vec![4], ..tiny() },
            "head_widths",
        ),
    ];
    for (config, field) in wrong {
        let message = config.init(0, Device::Cpu, Seed(0)).unwrap_err().to_string();
        assert!(message.contains(field), "{field}: {message}");
    }
    for preset in [UNetConfig::paper([3, 32, 32]), UNetConfig::ddpm_plus_plus([3, 32, 32], 4)] {
        preset.check().unwrap();
    }
}

/// Where the papers have attention. Likelihood Matching: the third block down and the second up, of
/// four, which are both at the third resolution, in the score's network and the covariance's, and
/// no dropout. ScoreFlow's DDPM++: at 16×16, the second resolution of 32×32, dropout 0.1.
#[test]
fn presets_are_the_papers() {
    let names = |config: &UNetConfig| -> Vec<String> {
        let net = config.init(1, Device::Cpu, Seed(0)).unwrap();
        net.parameters().entries().iter().map(|entry| entry.name.clone()).collect()
    };
    // the layout at a size that is quickly made
    let small = |config: UNetConfig| UNetConfig {
        widths: vec![8; 4],
        head_widths: vec![8; 4],
        groups: 4,
        head_trunk: HeadTrunk::Separate,
        ..config
    };
    let paper = UNetConfig::paper([3, 32, 32]);
    assert_eq!(
        (&paper.widths[..], paper.blocks, paper.dropout),
        (&[128, 256, 256, 512][..], 2, 0.0)
    );
    assert_eq!((&paper.head_widths[..], paper.head_blocks), (&[64, 128, 128, 128][..], 1));
    let names_of_paper = names(&small(paper));
    for prefix in ["", "head."] {
        for (i, direction) in (0..4).flat_map(|i| [(i, "down_blocks"), (i, "up_blocks")]) {
            let attends = names_of_paper
                .iter()
                .any(|name| name.starts_with(&format!("{prefix}{direction}.{i}.attentions")));
            let expected =
                (direction, i) == ("down_blocks", 2) || (direction, i) == ("up_blocks", 1);
            assert_eq!(attends, expected, "{prefix}{direction}.{i}");
        }
    }
    let plus = UNetConfig::ddpm_plus_plus([3, 32, 32], 4);
    assert_eq!((&plus.attention[..], plus.dropout), (&[false, true, false, false][..], 0.1));
    let names_of_plus = names(&UNetConfig { head_trunk: HeadTrunk::Shared, ..small(plus) });
    let attending: Vec<&str> = names_of_plus
        .iter()
        .filter_map(|name| name.strip_suffix(".to_q.weight"))
        .filter(|name| !name.starts_with("mid"))
        .collect();
    let expected = [0, 1, 2, 3].map(|j| format!("down_blocks.1.attentions.{j}"));
    assert_eq!(attending[..4], expected);
    assert_eq!(attending[4..], ["up_blocks.2.attentions.4"]);
}

/// Numbers of parameters: of DDPM++ those that tests/reference/ddpmpp.py counts in the published
/// layers (about 62 million are published for 4 blocks); of Likelihood Matching's network and of
/// that for a covariance of rank 0 those of diffusers' `UNet2DModel` (0.42.1) of these widths, with
/// a time embedding of 512.
#[test]
fn presets_have_the_published_sizes() {
    let size = |config: UNetConfig| config.size(0).unwrap();
    assert_eq!(size(UNetConfig::ddpm_plus_plus([3, 32, 32], 4)), 61_804_419);
    assert_eq!(size(UNetConfig::ddpm_plus_plus([3, 32, 32], 8)), 106_632_579);
    let paper = UNetConfig::paper([3, 32, 32]);
    assert_eq!(size(paper.clone()), 68_793_091);
    assert_eq!(paper.size(1).unwrap() - size(paper), 6_702_915);
    for preset in &PRESETS {
        assert!(preset.layer().get("model.network.shape").is_none(), "{}", preset.name);
    }
}

/// An imported pipeline is a model whose ε̂ at step `i`, `t = (i+1)/1000`, is what diffusers
/// computes, whichever way its output is meant; an export is the same pipeline again.
#[test]
fn imported_pipelines_predict_noise() {
    let of = reference("attention");
    let (sample, output) =
        (of("sample").unwrap().flatten(1, 3), of("output").unwrap().flatten(1, 3));
    let times = Times::each(vec![0.004, 0.872]);
    let q = Query::new(&sample, &times);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("pipe/unet")).unwrap();
    std::fs::create_dir_all(at("pipe/scheduler")).unwrap();
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        std::fs::copy(folder("attention").join(file), at("pipe/unet").join(file)).unwrap();
    }
    let index = |class: &str| {
        std::fs::write(at("pipe/model_index.json"), format!("{{\"_class_name\": \"{class}\"}}"))
            .unwrap();
    };
    index("DDPMPipeline");
    let scheduler = |fields: &str| {
        let text = format!(
            "{{\"_class_name\": \"DDPMScheduler\", \"num_train_timesteps\": 1000, {fields}}}"
        );
        std::fs::write(at("pipe/scheduler/scheduler_config.json"), text).unwrap();
    };
    for prediction in ["epsilon", "v_prediction", "sample"] {
        scheduler(&format!("\"prediction_type\": \"{prediction}\""));
        let run = at(prediction);
        assert_eq!(import(&at("pipe"), None, &run, Device::Cpu).unwrap(), None);
        let run = Run::load(&run, Device::Cpu).unwrap();
        let (alpha, sigma) = times.marginal(run.schedule(), Device::Cpu);
        let ours = run.model.noise(&q);
        // the output's definition with x_t = α x_0 + σ ε, solved for the output
        let back = match prediction {
            "epsilon" => ours.shallow_clone(),
            "v_prediction" => (&ours - &sample * &sigma) / &alpha,
            _ => (&sample - &ours * &sigma) / &alpha,
        };
        assert!(gap(&back, &output) < 1e-4, "{prediction}: {}", gap(&back, &output));
        assert!(gap(&run.model.moments(&q).noise, &ours) < 1e-6);

        export(&run, &at("exported")).unwrap();
        let again = at(&format!("{prediction}-again"));
        import(&at("exported"), None, &again, Device::Cpu).unwrap();
        let again = Run::load(&again, Device::Cpu).unwrap();
        assert_eq!(
            (&again.config.model, &again.config.schedule),
            (&run.config.model, &run.config.schedule)
        );
        assert_eq!(again.model.noise(&q), ours);
    }
    for (fields, what) in [
        ("\"prediction_type\": \"flow\"", "prediction_type flow"),
        ("\"beta_schedule\": \"sigmoid\"", "beta_schedule sigmoid"),
        ("\"trained_betas\": [0.1]", "trained_betas"),
        ("\"rescale_betas_zero_snr\": true", "rescale_betas_zero_snr"),
        ("\"beta_start\": 2.0", "beta_start"),
        ("\"x\": 0", "EulerScheduler"),
        ("\"x\": 1", "LDMPipeline"),
    ] {
        scheduler(fields);
        if what == "EulerScheduler" {
            let text = "{\"_class_name\": \"EulerScheduler\"}";
            std::fs::write(at("pipe/scheduler/scheduler_config.json"), text).unwrap();
        } else if what == "LDMPipeline" {
            index(what);
        }
        let message =
            import(&at("pipe"), None, &at("refused"), Device::Cpu).unwrap_err().to_string();
        assert!(message.contains(what), "no '{what}' in: {message}");
        assert!(!at("refused").exists());
    }
    // old pipelines are flat
    std::fs::create_dir(at("flat")).unwrap();
    for file in ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"] {
        let name = Path::new(file).file_name().unwrap();
        std::fs::copy(at("pipe").join(file), at("flat").join(name)).unwrap();
    }
    std::fs::write(at("flat/model_index.json"), "{\"_class_name\": \"DDPMPipeline\"}").unwrap();
    std::fs::write(at("flat/scheduler_config.json"), "{\"_class_name\": \"DDPMScheduler\"}")
        .unwrap();
    assert_eq!(import(&at("flat"), None, &at("of-flat"), Device::Cpu).unwrap(), None);
}

/// A network with classes is a model that is given them: for each row what diffusers computes,
/// whether rows are repeated datum by datum or some are left out, as the probability flow does with
/// rows that are solved.
#[test]
fn imported_classes_are_given() {
    let of = reference("classes");
    let (sample, output) =
        (of("sample").unwrap().flatten(1, 3), of("output").unwrap().flatten(1, 3));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    import(&folder("classes"), None, &at("run"), Device::Cpu).unwrap();
    let run = Run::load(at("run"), Device::Cpu).unwrap();
    assert_eq!((run.model.classes(), run.data.classes.len()), (5, 5));
    let times = Times::each(vec![0.004, 0.872]);
    let (right, wrong) = (Condition::classes(&[4, 1]), Condition::classes(&[4, 2]));
    let q = Query::new(&sample, &times);
    let ours = run.model.noise(&q.given(Some(&right)));
    assert!(gap(&ours, &output) < 1e-5, "{}", gap(&ours, &output));
    assert!(gap(&run.model.noise(&q.given(Some(&wrong))), &output) > 1e-2, "classes matter");

    let repeated = |x: &Tensor| x.repeat_interleave_self_int(3, 0, None);
    let (thrice, thrice_times) = (repeated(&sample), times.repeat(3));
    let thrice = Query::new(&thrice, &thrice_times);
    let thrice = run.model.noise(&thrice.given(Some(&right.repeat(3))));
    assert!(gap(&thrice, &repeated(&output)) < 1e-5);
    let (second, second_time) = (sample.narrow(0, 1, 1), times.narrow(1..2));
    let second = Query::new(&second, &second_time);
    let second = run.model.moments(&second.given(Some(&right.rows(&[1])))).noise;
    assert!(gap(&second, &output.narrow(0, 1, 1)) < 1e-5);

    // rows take different numbers of steps: one outlasts the other; random weights pull paths
    // apart, smaller ones do not
    let weights = run.model.parameters().flat().copy();
    run.model.parameters().assign(&(&weights * 0.6));
    let values = |classes: &[u32], x: &Tensor, first: u64| {
        let flow = ProbabilityFlow::new(&run.model).tolerance(1e-3, 1e-3).unwrap();
        let flow = flow.divergence(Divergence::Rademacher { probes: 2 }).unwrap();
        let batch = Batch::of(x).given(Some(Condition::classes(classes)));
        flow.log_likelihood(&batch, Seed(1), first).unwrap().values
    };
    let x = Tensor::cat(&[sample.narrow(0, 0, 1) * 0.2, sample.narrow(0, 1, 1)], 0);
    let both = values(&[4, 1], &x, 0);
    let alone = |classes: [u32; 2]| {
        [0, 1].map(|i| values(&classes[i..=i], &x.narrow(0, i as i64, 1), i as u64)[0])
    };
    let (right, wrong) = (alone([4, 1]), alone([1, 4]));
    // as near as the tolerance lets them be, and nearer than another class
    for ((both, right), wrong) in both.iter().zip(right).zip(wrong) {
        assert!((both - right).abs() < 0.1 * (both - wrong).abs(), "{both}: {right}, {wrong}");
    }
    run.model.parameters().assign(&weights);

    // diffusers' pipelines pass no classes on: its network and its scheduler are exported
    export(&run, &at("out")).unwrap();
    assert!(at("out/unet/config.json").exists() && !at("out/model_index.json").exists());
    assert_eq!(import(&at("out"), None, &at("again"), Device::Cpu).unwrap(), None);
    let again = Run::load(at("again"), Device::Cpu).unwrap();
    assert_eq!(again.model.noise(&q.given(Some(&Condition::classes(&[4, 1])))), ours);
}

/// The null class is exported as the last class, and is the null class again when read.
#[test]
fn the_null_class_comes_back() {
    let config = UNetConfig { classes: 4, null_class: true, ..tiny() };
    let net = config.init(0, Device::Cpu, Seed(4)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_unet(&net, dir.path()).unwrap();
    let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    let fields: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(fields["num_class_embeds"], 5);
    let again = read_unet(dir.path(), Device::Cpu).unwrap();
    assert_eq!((again.config().classes, again.config().null_class), (4, true));
    assert_eq!(again.parameters().flat(), net.parameters().flat());
}

/// bf16 products, as in autocast: outputs within bf16's 8 bits, gradients in f32 and close in
/// direction.
#[test]
fn half_precision_is_close() {
    let config = tiny();
    let net = config.init(3, Device::Cpu, Seed(4)).unwrap();
    let p = net.parameters();
    let moved = Noise::new(Seed(8), 0..1).normal(p.size() as usize, Kind::Float, Device::Cpu) * 0.1;
    p.assign(&(p.flat() + moved.view(-1)));
    let x = images(5, &config);
    let run = |precision| {
        let mode = Mode { precision, ..Mode::default() };
        let (noise, head) = net.images(&x, &positions(3.0, 700.0), None, mode, true);
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
    assert_eq!(run(Precision::F32).0, exact.0);
}

/// Activations that are computed again give the same loss to the bit and the same gradients but for
/// the order of sums, masks of dropout included, whichever parameters are trained; second
/// derivatives are refused.
#[test]
fn activations_are_computed_again() {
    let config = UNetConfig { dropout: 0.3, ..tiny() };
    let net = config.init(2, Device::Cpu, Seed(6)).unwrap();
    let p = net.parameters();
    p.assign(&(p.flat() + 0.05));
    let x = images(7, &config);
    let (score, all) = (net.score_size(), p.size());
    let loss = |mode: Mode| {
        let (noise, head) = net.images(&x, &positions(3.0, 500.0), None, mode, true);
        noise.square().sum(Kind::Float) + head.unwrap().sin().sum(Kind::Float)
    };
    for dropout in [None, Some(Seed(1))] {
        for (start, length) in [(0, all), (0, score), (score, all - score)] {
            p.track(start, length);
            let gradient = |recompute| {
                let mode = Mode { dropout, recompute, ..Mode::default() };
                let loss = loss(mode);
                (loss.double_value(&[]), p.gradient(&loss, start, length))
            };
            let (kept, again) = (gradient(false), gradient(true));
            assert_eq!(kept.0, again.0);
            let largest = kept.1.abs().max().double_value(&[]);
            let gap = gap(&kept.1, &again.1);
            assert!(largest > 0.0 && gap < 1e-6 * largest, "{dropout:?}, {start}: {gap:e}");
        }
    }
    p.track(0, all);
    let loss = loss(Mode { recompute: true, ..Mode::default() });
    let error = Tensor::f_run_backward(&[loss], &[p.get(0)], true, true).unwrap_err().to_string();
    assert!(error.contains("have no second derivatives"), "{error}");
}
