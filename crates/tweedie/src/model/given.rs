//! A model given classes.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{Denoiser, Interpolation, Model};
use crate::covariance::NoiseStatistics;
use crate::posterior::Jet;
use crate::schedule::Schedule;

/// A model that knows the classes of the rows it is asked about: `p(x_0|c)` for one that is
/// conditioned on classes, the model itself for one that is not.
///
/// Of `n` rows for `b` classes, the first `n/b` have the first class, the next the second, and so
/// on: data that are repeated datum by datum keep theirs.
pub struct Given<'a> {
    model: &'a Model,
    /// `[b]`.
    classes: Option<Tensor>,
}

impl Model {
    /// This model, given the classes of a batch; `None` where it is not conditioned on any.
    ///
    /// # Panics
    /// If a class is not one of the model's, or classes are given to a model without, or not to one
    /// with classes.
    pub fn given(&self, classes: Option<&[u32]>) -> Given<'_> {
        let known = self.classes();
        assert_eq!(classes.is_some(), known > 0, "classes for a model of {known} of them");
        let classes = classes.map(|classes| {
            let classes: Vec<i64> = classes.iter().map(|&class| class.into()).collect();
            assert!(
                classes.iter().all(|&class| class < known),
                "{classes:?} for a model of {known} classes"
            );
            Tensor::from_slice(&classes).to_device(self.device())
        });
        Given { model: self, classes }
    }
}

impl Given<'_> {
    /// The classes of the rows of `x`, `[n]`.
    fn classes(&self, x: &Tensor) -> Option<Tensor> {
        self.classes.as_ref().map(|classes| {
            let (rows, data) = (x.size()[0], classes.size()[0]);
            if rows == data {
                return classes.shallow_clone();
            }
            assert!(data > 0 && rows % data == 0, "{rows} rows for {data} classes");
            classes.repeat_interleave_self_int(rows / data, 0, None)
        })
    }
}

impl Denoiser for Given<'_> {
    fn dim(&self) -> i64 {
        self.model.dim()
    }

    fn schedule(&self) -> &Arc<dyn Schedule> {
        self.model.schedule()
    }

    fn noise(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.model.noise_given(x, t, self.classes(x).as_ref())
    }

    fn jet(&self, x: &Tensor, t: &[f64]) -> Jet {
        self.model.jet_given(x, t, self.classes(x).as_ref())
    }

    fn correction(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.model.correction_given(x, t, self.classes(x).as_ref())
    }

    fn known_part(&self, x: &Tensor, t: &[f64]) -> Option<(Tensor, Tensor)> {
        self.model.known_part(x, t)
    }

    fn for_rows(&self, rows: &[i64]) -> Option<Box<dyn Denoiser + '_>> {
        let classes = self.classes.as_ref()?;
        let rows = Tensor::from_slice(rows).to_device(classes.device());
        Some(Box::new(Given { model: self.model, classes: Some(classes.index_select(0, &rows)) }))
    }

    fn second_moment(&self, x: &Tensor, t: &[f64]) -> Tensor {
        self.model.second_moment_given(x, t, self.classes(x).as_ref())
    }

    fn noise_statistics(&self) -> Option<&NoiseStatistics> {
        self.model.noise_statistics()
    }

    fn interpolation(&self) -> Option<&dyn Interpolation> {
        self.model.interpolates().then_some(self)
    }

    fn kind(&self) -> Kind {
        self.model.kind()
    }

    fn device(&self) -> Device {
        self.model.device()
    }
}

impl Interpolation for Given<'_> {
    fn noise_and_v(&self, x: &Tensor, t: &[f64]) -> (Tensor, Tensor) {
        self.model.noise_and_v_given(x, t, self.classes(x).as_ref())
    }
}
