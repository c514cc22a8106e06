//! Autoencoders against diffusers and TAESD: references by tests/reference/autoencoder.py
//! (diffusers 0.42.1, torch 2.15.0).

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use tweedie::autoencoder::Autoencoder;
use tweedie::noise::{Noise, Seed};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reference/autoencoder").join(name)
}

fn read(path: impl AsRef<Path>) -> Autoencoder {
    Autoencoder::read(path, Device::Cpu).unwrap()
}

/// A reference's tensors by name.
fn reference(name: &str) -> impl Fn(&str) -> Tensor {
    let tensors = Tensor::read_safetensors(folder(name).join("reference.safetensors")).unwrap();
    move |name| tensors.iter().find(|(own, _)| own == name).expect(name).1.shallow_clone()
}

#[track_caller]
fn assert_equal(what: &str, ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.size(), theirs.size(), "{what}");
    let error = ((ours - theirs).norm() / theirs.norm()).double_value(&[]);
    println!("{what}: {error:.1e}");
    assert!(error < 1e-5, "{what}: {error}");
}

/// In [−1, 1], as diffusers has images.
fn centred(levels: &Tensor) -> Tensor {
    levels / 127.5 - 1.0
}

/// With and without the convolutions around the latents and the attention, with a shift, weights
/// in one file and in parts: Gaussians and images are diffusers', to 1e-5 in f32, and so are tiles.
#[test]
fn equals_autoencoder_kl() {
    for (name, scale, shift) in [("kl", 0.18215, 0.0), ("kl-plain", 0.3611, 0.1159)] {
        let (vae, of) = (read(folder(name)), reference(name));
        assert_eq!((vae.kind(), vae.name(), vae.has_std()), ("AutoencoderKL", name, true));
        let (mean, std) = vae.encode(&of("levels"));
        assert_equal(name, &mean, &((of("mean") - shift) * scale));
        assert_equal(name, &std.unwrap(), &(of("std") * scale));
        let scaled = |latents: Tensor| (latents - shift) * scale;
        assert_equal(name, &centred(&vae.decode(&mean)), &of("decoded"));
        let large = scaled(of("latents_large"));
        assert_equal(name, &centred(&vae.decode(&large)), &of("whole"));
        assert_equal(name, &centred(&vae.decode_in_tiles(&large, 4)), &of("tiled"));
    }
}

#[test]
fn equals_autoencoder_tiny() {
    let (vae, of) = (read(folder("tiny")), reference("tiny"));
    assert_eq!((vae.kind(), vae.has_std(), vae.factor()), ("AutoencoderTiny", false, 2));
    let (latents, std) = vae.encode(&of("levels"));
    assert!(std.is_none());
    assert_equal("latents", &latents, &((of("latents") - 0.25) * 0.5));
    assert_equal("decoded", &centred(&vae.decode(&latents)), &of("decoded"));
    // without normalisation a pixel sees what is within reach alone: blocks of three convolutions,
    // two on latents and one on pixels, and three convolutions beside
    let large = (of("latents_large") - 0.25) * 0.5;
    let tiles = centred(&vae.decode_in_tiles(&large, 16));
    // tiles begin at latents 0 and 12: up to the overlap, less that reach, all is as in the whole
    let reach = 2 * (1 + 2 * 3) + 1 + 3 + 1;
    let inner = |x: &Tensor| x.narrow(2, 0, 2 * 16 - reach);
    assert_equal("inner pixels", &inner(&tiles), &inner(&of("whole")));
    let gap = (tiles - of("whole")).abs().max().double_value(&[]);
    assert!(gap > 1e-3, "edges of tiles are seen: {gap}");
}

/// TAESD's own files: the same layers, counted otherwise, and the pooling of FLUX.2's.
#[test]
fn equals_taesd() {
    let of = reference("tiny-halves");
    let from_encoder = read(folder("tiny-halves/tiny_encoder.pth"));
    let from_decoder = read(folder("tiny-halves/tiny_decoder.pth"));
    assert_eq!(from_encoder.digest(), from_decoder.digest());
    let (latents, _) = from_encoder.encode(&of("levels"));
    assert_equal("latents", &latents, &of("latents"));
    assert_equal("decoded", &centred(&from_decoder.decode(&latents)), &of("decoded"));
}

/// An image's latents do not depend on those beside it, grey images are colour images, and a
/// larger batch than is computed at once loses nothing.
#[test]
fn images_are_encoded_one_by_one() {
    let vae = read(folder("kl"));
    let levels = Noise::new(Seed(1), 0..70).uniform(64);
    let grey = (Tensor::from_slice(&levels) * 255.0).round().view([70, 1, 8, 8]);
    let (all, _) = vae.encode(&grey);
    let (one, _) = vae.encode(&grey.narrow(0, 66, 1).repeat([1, 3, 1, 1]));
    assert_eq!(all.size(), [70, 2, 4, 4]);
    assert_equal("one", &one, &all.narrow(0, 66, 1));
    assert_eq!(vae.latent_shape([1, 8, 8]).unwrap(), [2, 4, 4]);
    assert_eq!(vae.image_shape([2, 4, 4]).unwrap(), [3, 8, 8]);
    assert_eq!(all.kind(), Kind::Float);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let vae = read(folder("kl-plain"));
    let message = |shape| vae.latent_shape(shape).unwrap_err().to_string();
    assert!(message([3, 30, 32]).contains("factor 4"), "{}", message([3, 30, 32]));
    assert!(message([3, 30, 32]).contains("32x32"), "{}", message([3, 30, 32]));
    assert!(message([2, 32, 32]).contains("3 channels, not 2"), "{}", message([2, 32, 32]));
    assert!(vae.image_shape([4, 8, 8]).unwrap_err().to_string().contains("3 channels, not 4"));
}

/// Weights, scale and layout make the digest; a copy elsewhere has the same.
#[test]
fn digests_tell_autoencoders_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (kl, other) = (read(folder("kl")), read(folder("kl-plain")));
    assert_ne!(kl.digest(), other.digest());
    let changed = |name: &str, from: &str, to: &str| {
        let (copy, config) = (dir.path().join(name), folder("kl").join("config.json"));
        std::fs::create_dir_all(&copy).unwrap();
        let text = std::fs::read_to_string(config).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(copy.join("config.json"), text.replacen(from, to, 1)).unwrap();
        let weights = "diffusion_pytorch_model.safetensors";
        std::fs::copy(folder("kl").join(weights), copy.join(weights)).unwrap();
        Autoencoder::read(&copy, Device::Cpu)
    };
    assert_eq!(changed("same", "\"silu\"", "\"swish\"").unwrap().digest(), kl.digest());
    assert_ne!(changed("scale", "0.18215", "0.2").unwrap().digest(), kl.digest());
    assert_ne!(
        changed("groups", "\"norm_num_groups\": 2", "\"norm_num_groups\": 1").unwrap().digest(),
        kl.digest()
    );
    // a pipeline's folder stands for its vae
    let pipeline = dir.path().join("pipeline");
    std::fs::create_dir_all(&pipeline).unwrap();
    std::fs::rename(dir.path().join("same"), pipeline.join("vae")).unwrap();
    assert_eq!(read(&pipeline).digest(), kl.digest());

    for (from, to, named) in [
        ("AutoencoderKL", "AutoencoderDC", "AutoencoderDC"),
        ("\"DownEncoderBlock2D\"", "\"AttnDownEncoderBlock2D\"", "AttnDownEncoderBlock2D"),
        ("\"silu\"", "\"gelu\"", "act_fn = gelu"),
        ("\"latents_mean\": null", "\"latents_mean\": [0.0, 0.1]", "latents_mean"),
        ("\"sample_size\"", "\"patch\": 2, \"sample_size\"", "patch = 2"),
        ("\"norm_num_groups\": 2", "\"norm_num_groups\": 3", "norm_num_groups = 3"),
        ("\"layers_per_block\": 1", "\"layers_per_block\": 900000000", "layers_per_block"),
        ("0.18215", "0", "scaling_factor = 0"),
        ("\"use_quant_conv\": true", "\"use_quant_conv\": false", "'quant_conv."),
        ("\"latent_channels\": 2", "\"latent_channels\": 9000", "parameters"),
    ] {
        let error = changed("refused", from, to).err().expect(named);
        assert!(error.to_string().contains(named) && error.is_request(), "{error}");
    }
}

/// Files that are no half of a TAESD are refused, and so is a half alone.
#[test]
fn halves_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let message = |name: &str| {
        let error = Autoencoder::read(dir.path().join(name), Device::Cpu).err().expect(name);
        error.to_string()
    };
    let copy = |from: &str, to: &str| {
        std::fs::copy(folder("tiny-halves").join(from), dir.path().join(to)).unwrap();
    };
    copy("tiny_encoder.pth", "tiny.pth");
    assert!(message("tiny.pth").contains("by its name"), "{}", message("tiny.pth"));
    copy("tiny_encoder.pth", "one_encoder.pth");
    assert!(message("one_encoder.pth").contains("one_decoder.pth"));
    copy("tiny_encoder.pth", "one_decoder.pth");
    let error = message("one_encoder.pth");
    assert!(error.contains("not of TAESD's layout") || error.contains("other"), "{error}");
}
