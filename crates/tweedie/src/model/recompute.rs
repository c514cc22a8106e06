//! Parts of a network whose activations are not kept for the way back, but computed again there:
//! `native/recompute.cpp` is their node in the graph.

#![allow(unsafe_code)] // functions of C, each with its reason beside it

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};

use tch::Tensor;

use crate::native::attempt;

/// The output anew, from activations.
type Again = unsafe extern "C" fn(*mut c_void, *const *const c_void, usize) -> *mut c_void;

unsafe extern "C" {
    fn tweedie_generator_state(
        like: *const c_void,
        out: *mut *mut c_void,
        error: *mut c_char,
    ) -> bool;
    fn tweedie_recomputed(
        output: *const c_void,
        inputs: *const *const c_void,
        count: usize,
        activations: usize,
        state: *const c_void,
        context: *mut c_void,
        again: Again,
        drop: unsafe extern "C" fn(*mut c_void),
        out: *mut *mut c_void,
        error: *mut c_char,
    ) -> bool;
}

/// A tensor that C++ has made.
///
/// # Panics
/// If it failed: an engine that has no memory for a node has none for anything.
fn made(make: impl FnOnce(*mut *mut c_void, *mut c_char) -> bool) -> Tensor {
    let mut out = null_mut();
    if let Err(problem) = attempt(|error| make(&mut out, error)) {
        panic!("{problem}");
    }
    // SAFETY: a tensor of LibTorch that nobody else owns
    unsafe { Tensor::from_ptr(out.cast()) }
}

/// The state of LibTorch's generator on the device of `like`.
pub(super) fn generator_state(like: &Tensor) -> Tensor {
    // SAFETY: `like` outlives the call
    made(|out, error| unsafe { tweedie_generator_state(like.as_ptr().cast(), out, error) })
}

/// `output`, which `block` has made of `inputs` and of parameters `leaves` without a graph, as a
/// function of them: on the way back `block` is called again, LibTorch's generator being in `state`.
/// It has no second derivatives.
pub(super) fn recomputed<const N: usize>(
    output: Tensor,
    inputs: [&Tensor; N],
    leaves: Vec<&Tensor>,
    state: Option<Tensor>,
    block: impl Fn([&Tensor; N]) -> Tensor + 'static,
) -> Tensor {
    let pointers = inputs.iter().chain(&leaves).map(|tensor| tensor.as_ptr().cast());
    let pointers: Vec<*const c_void> = pointers.collect();
    let state = state.as_ref().map_or(null(), |state| state.as_ptr().cast());
    let (again, drop, context) = closure(block);
    // SAFETY: all tensors outlive the call, which copies what it keeps of them; the context is
    // dropped by C++, once. On a device the way back runs on a thread of LibTorch's, while the one
    // that has asked for it waits: no two use the closure at once.
    made(|out, error| unsafe {
        tweedie_recomputed(
            output.as_ptr().cast(),
            pointers.as_ptr(),
            pointers.len(),
            N,
            state,
            context,
            again,
            drop,
            out,
            error,
        )
    })
}

/// A closure for C: what calls it, what drops it, and itself.
fn closure<const N: usize, F: Fn([&Tensor; N]) -> Tensor + 'static>(
    block: F,
) -> (Again, unsafe extern "C" fn(*mut c_void), *mut c_void) {
    unsafe extern "C" fn again<const N: usize, F: Fn([&Tensor; N]) -> Tensor>(
        context: *mut c_void,
        inputs: *const *const c_void,
        count: usize,
    ) -> *mut c_void {
        assert_eq!(count, N);
        // SAFETY: `context` is the closure below, and there are as many tensors
        let (block, inputs) = unsafe {
            let inputs = std::slice::from_raw_parts(inputs, count);
            (
                &*context.cast::<F>(),
                inputs.iter().map(|&x| Tensor::clone_from_ptr(x.cast_mut().cast())),
            )
        };
        let inputs: Vec<Tensor> = inputs.collect();
        let work = || block(std::array::from_fn(|i| &inputs[i]));
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(mut output) => {
                let pointer = output.as_mut_ptr();
                // C++ owns it now
                std::mem::forget(output);
                pointer.cast()
            }
            Err(_) => null_mut(),
        }
    }
    unsafe extern "C" fn dropped<F>(context: *mut c_void) {
        // SAFETY: it was made by `Box::into_raw` below, and is dropped once
        drop(unsafe { Box::from_raw(context.cast::<F>()) });
    }
    (again::<N, F>, dropped::<F>, Box::into_raw(Box::new(block)).cast())
}
