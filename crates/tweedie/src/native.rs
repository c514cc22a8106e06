//! Calls of the functions in `native/*.cpp`, which bind parts of LibTorch that `tch` does not.
//! `build.rs` compiles them.

use std::ffi::{CStr, CString, c_char};

/// Bytes of an error's text.
const ERROR: usize = 4096;

/// What went wrong, in one line of LibTorch's.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Calls a function that returns whether it did not fail, with a buffer for what went wrong.
pub(crate) fn attempt(call: impl FnOnce(*mut c_char) -> bool) -> Result<()> {
    let mut error = [0u8; ERROR];
    if call(error.as_mut_ptr().cast()) {
        return Ok(());
    }
    let text = CStr::from_bytes_until_nul(&error).expect("it ends within the buffer");
    Err(text.to_string_lossy().into_owned())
}

/// Text for C.
pub(crate) fn text(text: &str) -> CString {
    CString::new(text).expect("keys and addresses have no zero bytes")
}
