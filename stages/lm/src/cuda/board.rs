//! What the program asks of a device: memory, launches of kernels, matrix products.
//!
//! Two things implement it: a driver's device (feature `cuda`), and in tests the twins of the kernels on the processor.
//! The program above is the same for both, down to the list of arguments of each launch.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::LmError;

/// A device. Work is done in the order in which it is asked for; [`read`](Self::read) waits for all of it.
///
/// Addresses are those that [`allocate`](Self::allocate) gave, and places inside.
pub trait Board: Debug + Send + Sync {
    /// What it is, for messages.
    fn name(&self) -> String;

    /// Memory with arbitrary contents.
    ///
    /// # Errors
    /// [`LmError::Device`] when there is not enough.
    fn allocate(&self, bytes: usize) -> Result<u64, LmError>;

    /// Gives memory back, once all that was asked for before is done.
    fn free(&self, address: u64);

    /// Copies to the device.
    ///
    /// # Errors
    /// [`LmError::Device`] when the device fails; so for the methods below.
    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), LmError>;

    /// Waits, and copies from the device.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), LmError>;

    /// Copies within the device.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), LmError>;

    /// Sets all bytes to 0.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    fn clear(&self, address: u64, bytes: usize) -> Result<(), LmError>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    fn launch(&self, launch: &Launch<'_>) -> Result<(), LmError>;

    /// Computes a matrix product.
    ///
    /// # Errors
    /// See [`write`](Self::write).
    fn product(&self, product: &Product) -> Result<(), LmError>;
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A place in the device's memory; 0: none.
    Address(u64),
    /// A C `int`.
    Int(i32),
    /// 64 bits without sign.
    Long(u64),
    /// A C `float`.
    Float(f32),
}

impl Arg {
    /// A word that begins with its bytes: 32 bits are the lower half, on the little-endian machines that kernels run
    /// on.
    pub fn word(self) -> u64 {
        match self {
            Self::Address(value) | Self::Long(value) => value,
            Self::Int(value) => u64::from(value.cast_unsigned()),
            Self::Float(value) => u64::from(value.to_bits()),
        }
    }
}

/// A kernel and how it is run.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Its name.
    pub name: &'a str,
    /// Blocks in each direction, none of them 0.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// Its arguments.
    pub args: &'a [Arg],
}

/// The type of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes a number.
    #[default]
    F32,
    /// 2 bytes, the upper half of an `f32`.
    Bf16,
}

impl Precision {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The end of the names of its kernels.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A matrix of a product in column-major order, as cuBLAS has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Its first number.
    pub address: u64,
    /// Whether its transpose is meant.
    pub transposed: bool,
    /// Distance of its columns.
    pub stride: usize,
}

/// C = op(A)·op(B) or C += op(A)·op(B), column-major: C `[m, n]`, op(A) `[m, k]`, op(B) `[k, n]`; summed in `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Columns of op(A).
    pub k: usize,
    /// A.
    pub a: Factor,
    /// B.
    pub b: Factor,
    /// The type of A and B.
    pub input: Precision,
    /// The first number of C.
    pub c: u64,
    /// Distance of C's columns.
    pub c_stride: usize,
    /// The type of C.
    pub output: Precision,
    /// Whether the product is added to C.
    pub add: bool,
}

/// Memory of a device, given back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    board: Arc<dyn Board>,
    address: u64,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn new(board: &Arc<dyn Board>, bytes: usize) -> Result<Self, LmError> {
        // a place even for nothing, so that an address is always one
        let bytes = bytes.max(1);
        Ok(Self {
            address: board.allocate(bytes)?,
            board: Arc::clone(board),
            bytes,
        })
    }

    /// Its first byte.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A place inside.
    ///
    /// # Panics
    /// When it is outside, which would be a mistake of the program.
    pub(crate) fn at(&self, byte: usize) -> u64 {
        assert!(byte <= self.bytes, "a place outside its memory");
        self.address + byte as u64
    }

    pub(crate) fn arg(&self) -> Arg {
        Arg::Address(self.address)
    }

    pub(crate) fn clear(&self) -> Result<(), LmError> {
        self.board.clear(self.address, self.bytes)
    }

    /// The first `len` numbers of 4 bytes.
    pub(crate) fn floats(&self, len: usize) -> Result<Vec<f32>, LmError> {
        self.words(len, f32::from_le_bytes)
    }

    /// The same as ids.
    pub(crate) fn ids(&self, len: usize) -> Result<Vec<u32>, LmError> {
        self.words(len, u32::from_le_bytes)
    }

    fn words<T>(&self, len: usize, number: impl Fn([u8; 4]) -> T) -> Result<Vec<T>, LmError> {
        let bytes = self.read(4 * len)?;
        let words = bytes.as_chunks::<4>().0.iter();
        Ok(words.map(|word| number(*word)).collect())
    }

    pub(crate) fn read(&self, len: usize) -> Result<Vec<u8>, LmError> {
        assert!(len <= self.bytes, "more than its memory");
        let mut bytes = vec![0; len];
        self.board.read(self.address, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn write_floats(&self, values: &[f32]) -> Result<(), LmError> {
        assert!(4 * values.len() <= self.bytes, "more than its memory");
        // in parts, so that a large model is not held twice
        for (part, values) in values.chunks(1 << 22).enumerate() {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.board.write(self.at(part << 24), &bytes)?;
        }
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.board.free(self.address);
    }
}
