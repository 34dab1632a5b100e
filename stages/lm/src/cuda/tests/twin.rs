//! A device that is none: memory of the processor, the kernels' twins, products by the definition.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use starling_kernels::twin::{self, Launch as TwinLaunch};

use crate::cuda::Device;
use crate::cuda::board::{Arg, Board, Factor, Launch, Precision, Product};
use crate::error::LmError;

/// Bytes before and behind each piece of memory that nobody may write.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xa5;
/// What fresh memory holds: not a number, in either type.
const FRESH: u8 = 0xff;

/// See the module.
#[derive(Debug)]
pub(super) struct Twin {
    /// Length of each piece of memory.
    pieces: Mutex<BTreeMap<u64, usize>>,
    /// Bytes now, and at most.
    taken: Mutex<(usize, usize)>,
    backwards: bool,
}

impl Twin {
    /// Threads and blocks take their turns first to last, or last to first.
    pub(super) fn device(precision: Precision, backwards: bool) -> Device {
        Device::with_board(Self::board(backwards), precision)
    }

    pub(super) fn board(backwards: bool) -> Arc<Self> {
        Arc::new(Self {
            pieces: Mutex::default(),
            taken: Mutex::default(),
            backwards,
        })
    }

    /// The most bytes that were taken at once.
    pub(super) fn peak(&self) -> usize {
        self.taken.lock().unwrap().1
    }

    /// Checks that a place and what follows it are inside a piece.
    fn check(&self, address: u64, bytes: usize) {
        let pieces = self.pieces.lock().unwrap();
        let (start, len) = pieces
            .range(..=address)
            .next_back()
            .expect("no memory there");
        assert!(
            address + bytes as u64 <= start + *len as u64,
            "{bytes} bytes from byte {} of a piece of {len}",
            address - start
        );
    }

    #[expect(
        unsafe_code,
        reason = "addresses are those of memory that this board gave"
    )]
    fn number(&self, precision: Precision, address: u64, index: usize) -> f32 {
        let place = address + (index * precision.size()) as u64;
        self.check(place, precision.size());
        // SAFETY: checked to be inside a piece
        unsafe {
            match precision {
                Precision::F32 => (place as *const f32).read_unaligned(),
                Precision::Bf16 => (place as *const half::bf16).read_unaligned().to_f32(),
            }
        }
    }

    #[expect(
        unsafe_code,
        reason = "addresses are those of memory that this board gave"
    )]
    fn put(&self, precision: Precision, address: u64, index: usize, value: f32) {
        let place = address + (index * precision.size()) as u64;
        self.check(place, precision.size());
        // SAFETY: checked to be inside a piece
        unsafe {
            match precision {
                Precision::F32 => (place as *mut f32).write_unaligned(value),
                Precision::Bf16 => {
                    (place as *mut half::bf16).write_unaligned(half::bf16::from_f32(value));
                }
            }
        }
    }
}

fn place(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * GUARD, 256).unwrap()
}

#[expect(unsafe_code, reason = "memory by address, as a driver gives it")]
impl Board for Twin {
    fn name(&self) -> String {
        "twin".to_owned()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, LmError> {
        // SAFETY: the size is not 0, and the bytes are inside it
        let start = unsafe {
            let start = std::alloc::alloc(place(bytes));
            start.write_bytes(GUARD_BYTE, bytes + 2 * GUARD);
            start.add(GUARD).write_bytes(FRESH, bytes);
            start as u64 + GUARD as u64
        };
        self.pieces.lock().unwrap().insert(start, bytes);
        let mut taken = self.taken.lock().unwrap();
        taken.0 += bytes;
        taken.1 = taken.1.max(taken.0);
        Ok(start)
    }

    fn free(&self, address: u64) {
        let bytes = self.pieces.lock().unwrap().remove(&address);
        let bytes = bytes.expect("memory is freed once");
        self.taken.lock().unwrap().0 -= bytes;
        // SAFETY: this memory was given with that size
        let guards = unsafe {
            let start = (address - GUARD as u64) as *mut u8;
            let whole = std::slice::from_raw_parts(start, bytes + 2 * GUARD);
            let guard = |range: &[u8]| range.iter().all(|&byte| byte == GUARD_BYTE);
            let whole = guard(&whole[..GUARD]) && guard(&whole[GUARD + bytes..]);
            std::alloc::dealloc(start, place(bytes));
            whole
        };
        assert!(
            guards || std::thread::panicking(),
            "a kernel wrote past a piece of {bytes} bytes"
        );
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), LmError> {
        self.check(address, bytes.len());
        // SAFETY: checked
        unsafe { (address as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), LmError> {
        self.check(address, bytes.len());
        let len = bytes.len();
        // SAFETY: checked
        unsafe { (address as *const u8).copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), LmError> {
        self.check(from, bytes);
        self.check(to, bytes);
        // SAFETY: checked
        unsafe { (from as *const u8).copy_to(to as *mut u8, bytes) };
        Ok(())
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), LmError> {
        self.check(address, bytes);
        // SAFETY: checked
        unsafe { (address as *mut u8).write_bytes(0, bytes) };
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), LmError> {
        let letter = |arg: &Arg| match arg {
            Arg::Address(_) => 'p',
            Arg::Int(_) => 'i',
            Arg::Long(_) => 'l',
            Arg::Float(_) => 'f',
        };
        let signature: String = launch.args.iter().map(letter).collect();
        let mut values: Vec<u64> = launch.args.iter().map(|arg| arg.word()).collect();
        let mut arguments: Vec<*mut c_void> = values
            .iter_mut()
            .map(|value| std::ptr::from_mut(value).cast())
            .collect();
        let launch = TwinLaunch {
            name: launch.name,
            grid: launch.grid,
            block: launch.block,
            shared: launch.shared,
            signature: &signature,
            backwards: self.backwards,
        };
        // SAFETY: the arguments are of their letters' types; addresses are those of this board
        let done = unsafe { twin::launch(launch, &mut arguments) };
        done.map_err(LmError::Device)
    }

    fn product(&self, product: &Product) -> Result<(), LmError> {
        let Product { m, n, k, .. } = *product;
        // op(A) by rows and op(B) by columns, so that each sum runs over two slices
        let lines = |factor: Factor, lines: usize, by_line: bool| -> Vec<f32> {
            let place = |line: usize, at: usize| {
                if by_line != factor.transposed {
                    line * factor.stride + at
                } else {
                    at * factor.stride + line
                }
            };
            (0..lines * k)
                .map(|at| self.number(product.input, factor.address, place(at / k, at % k)))
                .collect()
        };
        let (a, b) = (lines(product.a, m, false), lines(product.b, n, true));
        for (column, b) in b.chunks_exact(k).enumerate() {
            for (row, a) in a.chunks_exact(k).enumerate() {
                let terms = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
                let mut sum = terms.sum::<f64>() as f32;
                let place = column * product.c_stride + row;
                if product.add {
                    sum += self.number(product.output, product.c, place);
                }
                self.put(product.output, product.c, place, sum);
            }
        }
        Ok(())
    }
}
