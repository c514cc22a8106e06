//! Small helpers for LibTorch's tensors that the other modules share.
//!
//! ```
//! use tweedie::tch::{Kind, Tensor};
//! use tweedie::tensor::{squared_norm, to_vec, vector_jacobian_product};
//!
//! let x = Tensor::from_slice2(&[[1.0, 2.0], [3.0, 4.0]]).set_requires_grad(true);
//! assert_eq!(to_vec(&squared_norm(&x)), [5.0, 25.0]);
//! // y = x², so that vᵀ ∂y/∂x = 2 v x
//! let v = Tensor::ones([2], (Kind::Double, x.device()));
//! let product = vector_jacobian_product(&x.square(), &x, &v, false);
//! assert_eq!(to_vec(&product), [2.0, 4.0, 6.0, 8.0]);
//! ```

use std::cell::Cell;
use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, with_grad};

/// The elements, row after row, in f64, from any kind and device.
pub fn to_vec(x: &Tensor) -> Vec<f64> {
    let x = x.detach().to_kind(Kind::Double).to_device(Device::Cpu).contiguous();
    Vec::try_from(x.view(-1)).expect("f64 on the CPU")
}

thread_local! {
    static UPLOADS: Cell<u64> = const { Cell::new(0) };
}

/// A copy of `values`, which are in main memory, in `kind` on `device`. Every copy to a device that
/// a model, a loss, a sampler or an estimator makes goes through here and is counted, on the CPU
/// too; from pinned memory it does not wait for the device.
pub fn upload(values: &Tensor, kind: Kind, device: Device) -> Tensor {
    UPLOADS.with(|count| count.set(count.get() + 1));
    let values = values.to_kind(kind);
    match device {
        Device::Cuda(_) => values.pin_memory(device).to_device_(device, kind, true, false),
        _ => values.to_device(device),
    }
}

/// How many copies [`upload`] makes on this thread while `f` runs.
pub fn uploads_of<T>(f: impl FnOnce() -> T) -> u64 {
    let before = UPLOADS.with(Cell::get);
    let _ = f();
    UPLOADS.with(Cell::get) - before
}

/// One number per row as a tensor `[b]` in the kind and on the device of `like`.
pub fn per_row(values: impl IntoIterator<Item = f64>, like: &Tensor) -> Tensor {
    let values: Vec<f64> = values.into_iter().collect();
    upload(&Tensor::from_slice(&values), like.kind(), like.device())
}

/// Sum over `dim`, dropping it.
pub fn sum_over(x: &Tensor, dim: i64) -> Tensor {
    x.sum_dim_intlist([dim].as_slice(), false, None::<Kind>)
}

/// The sum over the last dimension.
pub fn sum_last(x: &Tensor) -> Tensor {
    sum_over(x, -1)
}

/// `Σ_j x_j²` over the last dimension.
pub fn squared_norm(x: &Tensor) -> Tensor {
    sum_last(&x.square())
}

/// `vᵀ ∂y/∂x` for an output `y` `[b, m]` of rows `x` `[b, d]` that are apart from each other and
/// traced; `v` `[b, m]` or `[m]`. The graph is kept for further products, or freed.
///
/// # Panics
/// If `x` or `y` is not traced.
pub fn vector_jacobian_product(y: &Tensor, x: &Tensor, v: &Tensor, keep_graph: bool) -> Tensor {
    assert!(x.requires_grad() && y.requires_grad(), "x and y of a product have to be traced");
    let along = with_grad(|| (y * v).sum(None::<Kind>));
    Tensor::run_backward(&[along], &[x], keep_graph, false).remove(0)
}

/// A count out of a total, e.g. of clipped values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many were counted.
    pub some: u64,
    /// The total.
    pub all: u64,
}

impl Count {
    /// Of the elements of a mask.
    pub fn of(mask: &Tensor) -> Count {
        Count { some: mask.sum(Kind::Int64).int64_value(&[]) as u64, all: mask.numel() as u64 }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.some += other.some;
        self.all += other.all;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} ({:.2} %)",
            self.some,
            self.all,
            100.0 * self.some as f64 / self.all.max(1) as f64
        )
    }
}
