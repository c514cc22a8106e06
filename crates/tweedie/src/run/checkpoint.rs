//! Parameters and training state as safetensors bytes.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::model::{Entry, Parameters};
use crate::train::{Best, State};

/// More steps than any training takes.
const MOST_STEPS: u64 = 1 << 53;

type Problem<T> = std::result::Result<T, String>;

fn bytes_of(x: &Tensor) -> Vec<u8> {
    let values = x.detach().to_kind(Kind::Float).to_device(Device::Cpu).contiguous().view(-1);
    let values = Vec::<f32>::try_from(values).expect("f32 on the CPU");
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// A file's description of itself: one JSON object under this key, so that equal contents are equal
/// bytes (the order of several keys is not fixed).
const ABOUT: &str = "tweedie";
/// Raised when the meaning of a tensor changes. 2: heads put out their factors column by column. 3:
/// checksums.
const FORMAT: &str = "tweedie 3";

/// The checksum of everything a file holds: damage that leaves its form intact is found too.
const CHECKSUM: &str = "crc32";

fn checksum<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
    about: &BTreeMap<String, String>,
) -> String {
    let mut crc = crc32fast::Hasher::new();
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort();
    for (name, shape, bytes) in tensors {
        crc.update(format!("{name} {shape:?}").as_bytes());
        crc.update(bytes);
    }
    about
        .iter()
        .filter(|(key, _)| *key != CHECKSUM)
        .for_each(|(k, v)| crc.update(format!("{k}={v}").as_bytes()));
    format!("{:08x}", crc.finalize())
}

fn serialize(
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    mut about: BTreeMap<String, String>,
) -> Vec<u8> {
    let sum =
        checksum(tensors.iter().map(|(name, shape, bytes)| (&**name, &**shape, &**bytes)), &about);
    about.insert(CHECKSUM.into(), sum);
    let about = serde_json::to_string(&about).expect("plain data");
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("bytes of this shape");
        (name.clone(), view)
    });
    safetensors::serialize(views, Some([(ABOUT.to_string(), about)].into())).expect("plain tensors")
}

fn parse(bytes: &[u8]) -> Problem<(SafeTensors<'_>, BTreeMap<String, String>)> {
    let damaged = |e| format!("is damaged or cut short ({e})");
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let about = header.metadata().as_ref().and_then(|m| m.get(ABOUT)).map_or("{}", String::as_str);
    let about: BTreeMap<String, String> =
        serde_json::from_str(about).map_err(|e| format!("has a damaged header ({e})"))?;
    let format = about.get("format").map_or("none", String::as_str);
    let version =
        |format: &str| format.strip_prefix("tweedie ").and_then(|n| n.parse::<u64>().ok());
    if version(format) > version(FORMAT) {
        return Err(format!(
            "has the format '{format}', which a newer tweedie wrote; this one reads '{FORMAT}'"
        ));
    }
    if format != FORMAT {
        return Err(format!("has the format '{format}', this version reads '{FORMAT}'"));
    }
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let views = file.tensors();
    let found =
        checksum(views.iter().map(|(name, view)| (&**name, view.shape(), view.data())), &about);
    match about.get(CHECKSUM) {
        Some(sum) if *sum == found => Ok((file, about)),
        _ => Err(format!("is damaged: the checksum of its contents is {found}, not what it says")),
    }
}

fn tensor(file: &SafeTensors, name: &str, shape: &[i64]) -> Problem<Tensor> {
    let view = file.tensor(name).map_err(|_| format!("has no tensor '{name}'"))?;
    let found: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    if view.dtype() != Dtype::F32 || found != shape {
        return Err(format!(
            "'{name}' is {:?} {found:?}, and the run's configuration needs F32 {shape:?}",
            view.dtype()
        ));
    }
    let values: Vec<f32> =
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Tensor::from_slice(&values).view(shape))
}

/// One tensor per parameter, by name.
pub(super) fn parameter_bytes(
    entries: &[Entry],
    flat: &Tensor,
    setup: &Setup,
    about: &[(&str, String)],
) -> Vec<u8> {
    let tensors = entries
        .iter()
        .map(|e| {
            let count = e.shape.iter().product();
            let shape = e.shape.iter().map(|&n| n as usize).collect();
            (e.name.clone(), shape, bytes_of(&flat.narrow(0, e.offset, count)))
        })
        .collect();
    let format = [("format", FORMAT.to_string())];
    let mut all: BTreeMap<String, String> =
        setup.entries().map(|(k, v)| (k.to_string(), v)).collect();
    all.extend(format.iter().chain(about).map(|(k, v)| (k.to_string(), v.clone())));
    serialize(tensors, all)
}

/// What the parameters in a file belong to: checked where they are read, and absent from files of
/// earlier versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Setup {
    /// The fingerprint of the training data; empty of an imported model.
    pub data: String,
    /// Of scaling, base, network and schedule.
    pub digest: String,
}

impl Setup {
    const DATA: &'static str = "data";
    const DIGEST: &'static str = "setup";

    fn entries(&self) -> impl Iterator<Item = (&'static str, String)> {
        [(Setup::DATA, self.data.clone()), (Setup::DIGEST, self.digest.clone())]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
    }

    /// Refuses a file whose parameters belong to another setup.
    fn check(&self, about: &BTreeMap<String, String>) -> Problem<()> {
        let other = |key: &str, own: &str| {
            about.get(key).is_some_and(|found| !found.is_empty() && found != own)
        };
        if other(Setup::DATA, &self.data) {
            return Err("belongs to a training on other data than data.json says".into());
        }
        if other(Setup::DIGEST, &self.digest) {
            return Err(
                "belongs to another run: its parameters were trained with another scaling, base, \
                network or schedule than data.json, base.json and config.toml say"
                    .into(),
            );
        }
        Ok(())
    }
}

/// What [`parameter_bytes`] wrote `about` the parameters under `key`.
pub(super) fn about(bytes: &[u8], key: &str) -> Problem<String> {
    let (_, mut about) = parse(bytes)?;
    about.remove(key).ok_or_else(|| format!("has no '{key}'"))
}

/// The flat parameters from what [`parameter_bytes`] wrote for the same `setup`.
pub(super) fn read_parameters(bytes: &[u8], like: &Parameters, setup: &Setup) -> Problem<Tensor> {
    let (file, about) = parse(bytes)?;
    setup.check(&about)?;
    let parts: Problem<Vec<Tensor>> =
        like.entries().iter().map(|e| Ok(tensor(&file, &e.name, &e.shape)?.view(-1))).collect();
    let flat = Tensor::cat(&parts?, 0);
    if flat.isfinite().all().int64_value(&[]) == 0 {
        return Err("holds values that are not finite".into());
    }
    Ok(flat)
}

/// What the objective keeps from step to step, of an objective that keeps anything.
const MEMORY: &str = "objective";

/// Everything needed to resume, as flat tensors, and what else the file records `about` itself.
pub(super) fn state_bytes(state: &State, setup: &Setup, more: &[(&str, String)]) -> Vec<u8> {
    let mut flat = vec![
        ("parameters", &state.parameters),
        ("ema", &state.ema),
        ("first", &state.first),
        ("second", &state.second),
    ];
    let mut about = BTreeMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("iteration".to_string(), state.iteration.to_string()),
        ("seconds".to_string(), state.seconds.to_string()),
        ("since_best".to_string(), state.since_best.to_string()),
    ]);
    about.extend(setup.entries().map(|(key, value)| (key.to_string(), value)));
    about.extend(more.iter().map(|(key, value)| (key.to_string(), value.clone())));
    if let Some(best) = &state.best {
        flat.push(("best", &best.parameters));
        about.insert("best".into(), best.value.to_string());
        about.extend(
            best.iteration.map(|iteration| ("best_iteration".to_string(), iteration.to_string())),
        );
    }
    flat.extend(state.memory.as_ref().map(|memory| (MEMORY, memory)));
    if let Some(metric) = &state.pending {
        about.insert("pending".into(), serde_json::to_string(metric).expect("plain data"));
    }
    let tensors = flat
        .into_iter()
        .map(|(name, x)| (name.to_string(), vec![x.size()[0] as usize], bytes_of(x)))
        .collect();
    serialize(tensors, about)
}

/// The numbers of a state, without its tensors.
pub(super) struct StateHeader {
    pub iteration: u64,
    pub seconds: f64,
    pub since_best: u64,
    pub best: Option<f64>,
    pub best_iteration: Option<u64>,
}

impl StateHeader {
    pub(super) fn read(bytes: &[u8]) -> Problem<StateHeader> {
        StateHeader::of(&parse(bytes)?.1)
    }

    fn of(about: &BTreeMap<String, String>) -> Problem<StateHeader> {
        let optional = |key: &str| about.contains_key(key);
        Ok(StateHeader {
            iteration: number(about, "iteration")?,
            seconds: number(about, "seconds")?,
            since_best: number(about, "since_best")?,
            best: optional("best").then(|| number(about, "best")).transpose()?,
            best_iteration: optional("best_iteration")
                .then(|| number(about, "best_iteration"))
                .transpose()?,
        })
    }
}

fn number<T: std::str::FromStr>(about: &BTreeMap<String, String>, key: &str) -> Problem<T> {
    let value = about.get(key).ok_or_else(|| format!("has no '{key}'"))?;
    value.parse().map_err(|_| format!("has '{key}' = '{value}'"))
}

/// The state from what [`state_bytes`] wrote, of `parameters` and the same `setup`.
pub(super) fn read_state(bytes: &[u8], parameters: &Parameters, setup: &Setup) -> Problem<State> {
    let (file, about) = parse(bytes)?;
    setup.check(&about)?;
    let (device, size) = (parameters.flat().device(), parameters.size());
    let numbers = |name: &str, size: i64| {
        let values = tensor(&file, name, &[size])?;
        match values.isfinite().all().int64_value(&[]) {
            0 => Err(format!("holds values of '{name}' that are not finite")),
            _ => Ok(values),
        }
    };
    let flat = |name: &str| Ok::<_, String>(numbers(name, size)?.to_device(device));
    // its length is the objective's to check
    let memory = match file.tensor(MEMORY) {
        Ok(view) => Some(numbers(MEMORY, view.shape().iter().product::<usize>() as i64)?),
        Err(_) => None,
    };
    let header = StateHeader::of(&about)?;
    let best = match header.best {
        Some(value) => {
            Some(Best { value, iteration: header.best_iteration, parameters: flat("best")? })
        }
        None => None,
    };
    let StateHeader { iteration, seconds, since_best, .. } = header;
    if iteration.max(since_best) > MOST_STEPS || !(0.0..=1e12).contains(&seconds) {
        return Err(format!(
            "claims {iteration} iterations, {since_best} validations and {seconds} seconds"
        ));
    }
    let pending = about.get("pending").map(|line| serde_json::from_str(line)).transpose();
    Ok(State {
        iteration,
        seconds,
        parameters: flat("parameters")?,
        ema: flat("ema")?,
        first: flat("first")?,
        second: flat("second")?,
        best,
        since_best,
        memory,
        pending: pending.map_err(|e| format!("has a metric that cannot be read ({e})"))?,
    })
}
