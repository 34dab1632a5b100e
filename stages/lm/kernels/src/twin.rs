//! Kernels compiled for the processor.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

#[expect(
    unsafe_code,
    reason = "the twins are C++; their declarations are those of twin/twin.cpp"
)]
mod raw {
    use super::{c_char, c_int, c_void};

    unsafe extern "C" {
        pub(super) fn starling_twin_launch(
            name: *const c_char,
            grid: *const u32,
            block: u32,
            shared: usize,
            signature: *const c_char,
            arguments: *mut *mut c_void,
            backwards: c_int,
        ) -> *const c_char;
    }
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel.
    pub name: &'a str,
    /// Blocks in each direction.
    pub grid: [u32; 3],
    /// Threads of a block, a multiple of 32.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// A letter an argument: `p` for an address, `i` for an `int`, `l` for 64 bits, `f` for a `float`.
    pub signature: &'a str,
    /// Whether blocks and threads take their turns last to first: a kernel that gives other results then lacks a
    /// barrier.
    pub backwards: bool,
}

/// Runs a kernel to its end.
///
/// # Errors
/// What is wrong with the launch, or which threads wait for each other.
///
/// # Safety
/// As many `arguments` as letters, each pointing to a value of its letter's type; addresses among them must be valid
/// for what the kernel reads and writes there.
#[expect(
    unsafe_code,
    reason = "the caller promises that addresses are valid, as for a launch on a device"
)]
pub unsafe fn launch(launch: Launch<'_>, arguments: &mut [*mut c_void]) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (name, signature) = (text(launch.name)?, text(launch.signature)?);
    if arguments.len() != launch.signature.len() {
        return Err(format!(
            "{} arguments, {} letters",
            arguments.len(),
            launch.signature.len()
        ));
    }
    // SAFETY: the strings outlive the call; the rest is the caller's promise
    let fault = unsafe {
        raw::starling_twin_launch(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block,
            launch.shared,
            signature.as_ptr(),
            arguments.as_mut_ptr(),
            c_int::from(launch.backwards),
        )
    };
    if fault.is_null() {
        return Ok(());
    }
    // SAFETY: not null, and a text of this thread that ends with a 0
    let fault = unsafe { CStr::from_ptr(fault) };
    Err(format!("{}: {}", launch.name, fault.to_string_lossy()))
}
