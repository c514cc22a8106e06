//! A network's parameters as views of one flat buffer: optimiser, clipping, EMA and checkpoints are
//! then a handful of calls each, whatever the number of layers.

use std::rc::Rc;

use tch::{Device, Kind, Tensor, no_grad};

use crate::noise::{Noise, Seed};

/// Where one parameter lies in the flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name in checkpoints, `trunk.0.weight`.
    pub name: String,
    /// The shape of its tensor.
    pub shape: Vec<i64>,
    /// The place of its first element in the buffer.
    pub offset: i64,
}

/// Named parameters that share one flat buffer.
#[derive(Debug)]
pub struct Parameters {
    flat: Tensor,
    entries: Vec<Entry>,
    leaves: Rc<Vec<Tensor>>,
}

/// Collects initial values, then lays them out.
#[derive(Debug, Default)]
pub struct Builder {
    entries: Vec<Entry>,
    values: Vec<Tensor>,
    size: i64,
    counting: bool,
}

impl Builder {
    /// A builder that counts elements and makes none: what a configuration from a file asks for is
    /// compared with the weights beside it before it is believed.
    pub fn counting() -> Builder {
        Builder { counting: true, ..Builder::default() }
    }

    /// Adds a parameter of this shape; returns its index.
    fn add(
        &mut self,
        name: impl Into<String>,
        shape: &[i64],
        values: impl FnOnce() -> Tensor,
    ) -> usize {
        let count = shape.iter().fold(1i64, |count, &n| count.saturating_mul(n));
        self.entries.push(Entry { name: name.into(), shape: shape.to_vec(), offset: self.size });
        if !self.counting {
            self.values.push(values().to_kind(Kind::Float).reshape([-1]));
        }
        self.size = self.size.saturating_add(count);
        self.entries.len() - 1
    }

    /// Adds a linear layer for each of `replicates`: weight `[R, inputs, outputs]` drawn
    /// `N(0, gain²/inputs)`, bias `[R, 1, outputs]` zero. Returns the index of the weight; the bias
    /// follows it.
    pub fn linear(
        &mut self,
        name: &str,
        replicates: i64,
        inputs: i64,
        outputs: i64,
        gain: f64,
        seed: Seed,
    ) -> usize {
        let shape = [replicates, inputs, outputs];
        let index = self.add(format!("{name}.weight"), &shape, || {
            let mut noise = Noise::new(seed.derive(name), 0..(replicates * inputs) as u64);
            let z = noise.normal(outputs as usize, Kind::Float, Device::Cpu);
            z.view(shape) * (gain / (inputs as f64).sqrt())
        });
        self.constant(format!("{name}.bias"), &[replicates, 1, outputs], 0.0);
        index
    }

    /// Adds a square convolution: weight `[outputs, inputs, size, size]` drawn
    /// `N(0, gain²/fan-in)`, bias zero. Returns the index of the weight; the bias follows it.
    pub fn convolution(
        &mut self,
        name: &str,
        inputs: i64,
        outputs: i64,
        size: i64,
        gain: f64,
        seed: Seed,
    ) -> usize {
        let sd = gain / ((size * size * inputs) as f64).sqrt();
        let shape = [outputs, inputs, size, size];
        let index = self.normal(format!("{name}.weight"), &shape, sd, seed.derive(name));
        self.constant(format!("{name}.bias"), &[outputs], 0.0);
        index
    }

    /// Adds a parameter drawn `N(0, sd²)`; returns its index.
    pub fn normal(&mut self, name: impl Into<String>, shape: &[i64], sd: f64, seed: Seed) -> usize {
        self.add(name, shape, || {
            let each: i64 = shape[1..].iter().product();
            match sd == 0.0 {
                true => Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
                false => {
                    Noise::new(seed, 0..shape[0] as u64).normal(
                        each as usize,
                        Kind::Float,
                        Device::Cpu,
                    ) * sd
                }
            }
        })
    }

    /// Adds a parameter drawn uniformly, of mean 0 and variance `sd²`; returns its index.
    pub fn uniform(
        &mut self,
        name: impl Into<String>,
        shape: &[i64],
        sd: f64,
        seed: Seed,
    ) -> usize {
        self.add(name, shape, || {
            let each: i64 = shape[1..].iter().product();
            let u = Noise::new(seed, 0..shape[0] as u64).uniform(each as usize);
            (Tensor::from_slice(&u) - 0.5) * (12f64.sqrt() * sd)
        })
    }

    /// Adds a parameter that is `value` everywhere; returns its index.
    pub fn constant(&mut self, name: impl Into<String>, shape: &[i64], value: f64) -> usize {
        self.add(name, shape, || Tensor::full(shape, value, (Kind::Float, Device::Cpu)))
    }

    /// Zeroes the first `count` entries along `dim` of the parameter at `index`.
    pub fn zero_first(&mut self, index: usize, dim: i64, count: i64) {
        let shape = self.entries[index].shape.clone();
        self.zero_first_of(index, &shape, dim, count);
    }

    /// Zeroes the first `count` entries along `dim` of the parameter at `index`, seen as `shape`.
    pub fn zero_first_of(&mut self, index: usize, shape: &[i64], dim: i64, count: i64) {
        if !self.counting {
            let _ = self.values[index].view(shape).narrow(dim, 0, count).zero_();
        }
    }

    /// Number of elements so far.
    pub fn size(&self) -> i64 {
        self.size
    }

    /// The parameters with these values, whose device they are on, whatever was drawn for them.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn over(self, flat: Tensor) -> Parameters {
        assert_eq!(flat.size(), [self.size], "values of parameters");
        Parameters::over(flat, self.entries)
    }

    /// What was added so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The parameters, on `device`.
    pub fn finish(self, device: Device) -> Parameters {
        assert!(!self.counting, "parameters that were counted only");
        let flat = Tensor::cat(&self.values, 0).to_device(device);
        Parameters::over(flat, self.entries)
    }
}

impl Parameters {
    /// Views of `flat` at `entries`.
    fn over(flat: Tensor, entries: Vec<Entry>) -> Parameters {
        let leaves: Vec<Tensor> = entries
            .iter()
            .map(|e| {
                let count: i64 = e.shape.iter().product();
                flat.narrow(0, e.offset, count).view(&e.shape[..]).detach().set_requires_grad(true)
            })
            .collect();
        Parameters { flat, entries, leaves: Rc::new(leaves) }
    }

    /// A parameter by index.
    pub fn get(&self, index: usize) -> &Tensor {
        &self.leaves[index]
    }

    /// All parameters, in the order of their indices.
    pub(crate) fn leaves(&self) -> Rc<Vec<Tensor>> {
        self.leaves.clone()
    }

    /// Where everything lies.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The flat buffer: writing into it changes the parameters.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Number of elements.
    pub fn size(&self) -> i64 {
        self.flat.size()[0]
    }

    /// Overwrites every parameter.
    pub fn assign(&self, flat: &Tensor) {
        no_grad(|| self.flat.shallow_clone().copy_(flat));
    }

    /// An independent copy.
    pub fn duplicate(&self) -> Parameters {
        Parameters::over(self.flat.copy(), self.entries.clone())
    }

    /// Follows gradients of the parameters at flat positions `start..start + length` (whole
    /// entries) alone: what the others are used for is not kept for the way back.
    pub fn track(&self, start: i64, length: i64) {
        for (entry, leaf) in self.entries.iter().zip(self.leaves.iter()) {
            let _ = leaf.set_requires_grad((start..start + length).contains(&entry.offset));
        }
    }

    /// The gradient of `loss` with respect to the parameters at flat positions
    /// `start..start + length` (whole entries), flat; parameters that `loss` does not depend on get
    /// zeros.
    pub fn gradient(&self, loss: &Tensor, start: i64, length: i64) -> Tensor {
        let inside = |e: &Entry| e.offset >= start && e.offset < start + length;
        let leaves: Vec<&Tensor> = self
            .entries
            .iter()
            .zip(self.leaves.iter())
            .filter(|(e, _)| inside(e))
            .map(|(_, l)| l)
            .collect();
        let gradients = Tensor::run_backward(&[loss], &leaves, false, false);
        let flat: Vec<Tensor> = gradients
            .into_iter()
            .zip(leaves)
            .map(
                |(g, leaf)| {
                    if g.defined() { g.reshape([-1]) } else { leaf.zeros_like().reshape([-1]) }
                },
            )
            .collect();
        Tensor::cat(&flat, 0)
    }
}

/// `x W + b` for one network (`x` `[n, in]` seen as `[1, n, in]`) or for `R` replicates at once.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    if weight.size()[0] == 1 {
        let flat = x.squeeze_dim(0);
        return bias.view([-1]).addmm(&flat, &weight.squeeze_dim(0)).unsqueeze(0);
    }
    bias.baddbmm(x, weight, 1.0, 1.0)
}
