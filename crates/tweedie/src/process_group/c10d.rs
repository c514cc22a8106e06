//! LibTorch's engine for several processes, as `native/c10d.cpp` binds it.

#![allow(unsafe_code)] // functions of C, each with its reason beside it

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use tch::Tensor;

pub(super) use crate::native::Result;
use crate::native::{attempt, text};

#[repr(C)]
struct RawStore {
    _private: [u8; 0],
}

#[repr(C)]
struct RawGroup {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn tweedie_store_open(
        host: *const c_char,
        port: u16,
        serves: bool,
        processes: i64,
        timeout: i64,
        prefix: *const c_char,
        out: *mut *mut RawStore,
        error: *mut c_char,
    ) -> bool;
    fn tweedie_store_free(store: *mut RawStore);
    fn tweedie_store_set(
        store: *mut RawStore,
        key: *const c_char,
        bytes: *const u8,
        count: usize,
        error: *mut c_char,
    ) -> bool;
    fn tweedie_store_get(
        store: *mut RawStore,
        key: *const c_char,
        take: unsafe extern "C" fn(*mut c_void, *const u8, usize),
        context: *mut c_void,
        error: *mut c_char,
    ) -> bool;
    fn tweedie_group_open(
        store: *mut RawStore,
        on_devices: bool,
        rank: c_int,
        size: c_int,
        timeout: i64,
        out: *mut *mut RawGroup,
        error: *mut c_char,
    ) -> bool;
    fn tweedie_group_free(group: *mut RawGroup);
    fn tweedie_group_sum(group: *mut RawGroup, tensor: *mut c_void, error: *mut c_char) -> bool;
    fn tweedie_group_broadcast(
        group: *mut RawGroup,
        tensor: *mut c_void,
        from: c_int,
        error: *mut c_char,
    ) -> bool;
    fn tweedie_group_gather(
        group: *mut RawGroup,
        all: *mut c_void,
        own: *mut c_void,
        error: *mut c_char,
    ) -> bool;
}

/// Milliseconds, at least one.
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// Keys and values that the processes share; one of them serves it.
pub(super) struct Store(*mut RawStore);

// SAFETY: c10d's stores lock every operation, and belong to no thread.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: it was made by `tweedie_store_open`, and is freed once
        unsafe { tweedie_store_free(self.0) }
    }
}

impl Store {
    /// The store at `host` and `port`, which this process `serves` or another one of so many.
    pub fn open(
        (host, port): (&str, u16),
        serves: bool,
        processes: usize,
        timeout: Duration,
        prefix: &str,
    ) -> Result<Store> {
        let (host, prefix, mut out) = (text(host), text(prefix), null_mut());
        let timeout = milliseconds(timeout);
        // SAFETY: texts end in a zero byte; `out` and the buffer outlive the call
        attempt(|error| unsafe {
            tweedie_store_open(
                host.as_ptr(),
                port,
                serves,
                processes as i64,
                timeout,
                prefix.as_ptr(),
                &mut out,
                error,
            )
        })?;
        Ok(Store(out))
    }

    /// Keeps `value` at `key`.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key);
        // SAFETY: the bytes are copied before the call returns
        attempt(|error| unsafe {
            tweedie_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len(), error)
        })
    }

    /// What is kept at `key`, if anything.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        unsafe extern "C" fn take(context: *mut c_void, bytes: *const u8, count: usize) {
            // SAFETY: `context` is `found` below, which outlives the call; there are `count` bytes
            unsafe {
                let bytes = match count {
                    0 => &[],
                    _ => std::slice::from_raw_parts(bytes, count),
                };
                *context.cast::<Option<Vec<u8>>>() = Some(bytes.to_vec());
            }
        }
        let (key, mut found) = (text(key), None::<Vec<u8>>);
        let context = (&raw mut found).cast();
        // SAFETY: `take` is called before the call returns, if at all
        attempt(|error| unsafe { tweedie_store_get(self.0, key.as_ptr(), take, context, error) })?;
        Ok(found)
    }
}

/// Collectives: every process calls the same ones in the same order.
pub(super) struct Collectives(*mut RawGroup);

// SAFETY: a backend belongs to no thread; whoever shares it takes turns.
unsafe impl Send for Collectives {}

impl Drop for Collectives {
    fn drop(&mut self) {
        // SAFETY: it was made by `open`, and is freed once
        unsafe { tweedie_group_free(self.0) }
    }
}

impl Collectives {
    /// Those of tensors on the CPU (Gloo), or of tensors on CUDA devices (NCCL), once LibTorch's CUDA
    /// library is open.
    pub fn open(
        store: &Store,
        on_devices: bool,
        (rank, size): (usize, usize),
        timeout: Duration,
    ) -> Result<Collectives> {
        let (mut out, timeout) = (null_mut(), milliseconds(timeout));
        let (rank, size) = (rank as c_int, size as c_int);
        // SAFETY: c10d keeps the store as long as it needs it
        attempt(|error| unsafe {
            tweedie_group_open(store.0, on_devices, rank, size, timeout, &mut out, error)
        })?;
        Ok(Collectives(out))
    }

    /// Sums `tensor` over the ranks, in place.
    pub fn sum(&self, tensor: &mut Tensor) -> Result<()> {
        // SAFETY: a pointer to a tensor of LibTorch, which outlives the call
        attempt(|error| unsafe { tweedie_group_sum(self.0, tensor.as_mut_ptr().cast(), error) })
    }

    /// Overwrites `tensor` by that of rank `from`.
    pub fn broadcast(&self, tensor: &mut Tensor, from: usize) -> Result<()> {
        // SAFETY: as in `sum`
        attempt(|error| unsafe {
            tweedie_group_broadcast(self.0, tensor.as_mut_ptr().cast(), from as c_int, error)
        })
    }

    /// The tensors `own` of all ranks, one after the other in `all`.
    pub fn gather(&self, all: &mut Tensor, own: &mut Tensor) -> Result<()> {
        // SAFETY: as in `sum`
        attempt(|error| unsafe {
            tweedie_group_gather(self.0, all.as_mut_ptr().cast(), own.as_mut_ptr().cast(), error)
        })
    }
}
