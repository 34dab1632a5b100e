//! A device of NVIDIA's driver.
//!
//! The driver and cuBLAS are opened when a device is asked for, so a binary with this feature starts without them. The
//! bindings panic when a library or a name in it is missing; so those are looked for first, and what is missing becomes
//! an error that says it.
#![expect(
    unsafe_code,
    reason = "a driver is C: each call's comment says why its arguments are valid"
)]

use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cudarc::cublas::result::{self as blas, CublasError};
use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasMath_t, cublasOperation_t,
    cublasSetMathMode, cudaDataType_t,
};
use cudarc::driver::{DriverError, result as driver, sys};

use super::board::{Board, Factor, Launch, Precision, Product};
use crate::error::LmError;

/// What has to be there: names of a library, and what is called in it.
const NEEDED: [(&[&str], &[&str]); 2] = [
    (
        &["libcuda.so.1", "libcuda.so"],
        &[
            "cuInit",
            "cuDeviceGet",
            "cuDeviceGetCount",
            "cuDeviceGetName",
            "cuDeviceTotalMem_v2",
            "cuDeviceGetDefaultMemPool",
            "cuMemPoolSetAttribute",
            "cuDevicePrimaryCtxRetain",
            "cuCtxSetCurrent",
            "cuStreamCreate",
            "cuStreamSynchronize",
            "cuMemAllocAsync",
            "cuMemFreeAsync",
            "cuMemcpyHtoDAsync_v2",
            "cuMemcpyDtoHAsync_v2",
            "cuMemcpyDtoDAsync_v2",
            "cuMemsetD8Async",
            "cuModuleLoadData",
            "cuModuleGetFunction",
            "cuFuncSetAttribute",
            "cuLaunchKernel",
            "cuGetErrorName",
            "cuGetErrorString",
        ],
    ),
    (
        &["libcublas.so.13", "libcublas.so", "libcublas.so.12"],
        &[
            "cublasCreate_v2",
            "cublasSetStream_v2",
            "cublasSetMathMode",
            "cublasGemmEx",
        ],
    ),
];

/// Shared memory beyond which a kernel must be told that it may have more.
const PLAIN_SHARED: usize = 48 << 10;

/// Opens a device by its number, once; later calls give the same one.
///
/// # Errors
/// [`LmError::NoDevice`] when a library is missing or there is no such device.
pub(super) fn open(number: usize) -> Result<Arc<dyn Board>, LmError> {
    static OPEN: Mutex<BTreeMap<usize, Arc<Driver>>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = open.get(&number) {
        return Ok(Arc::clone(known) as Arc<dyn Board>);
    }
    let device = Arc::new(Driver::open(number)?);
    open.insert(number, Arc::clone(&device));
    Ok(device)
}

/// Says which libraries are missing, if any.
fn probe() -> Result<(), LmError> {
    static MISSING: OnceLock<Vec<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| NEEDED.iter().filter_map(fault).collect());
    if missing.is_empty() {
        return Ok(());
    }
    Err(LmError::NoDevice(format!(
        "no CUDA: {}; install NVIDIA's driver and CUDA 13's cuBLAS, or name their folders in LD_LIBRARY_PATH, or \
         compute on the processor with `device = \"cpu\"`",
        missing.join("; ")
    )))
}

/// What is wrong with a library.
fn fault((names, symbols): &(&[&str], &[&str])) -> Option<String> {
    let mut why = None;
    for name in *names {
        // SAFETY: these are the libraries that the user's system offers for the purpose; opening them runs their
        // start-up code and nothing else
        match unsafe { libloading::Library::new(*name) } {
            Ok(library) => {
                let absent = symbols.iter().find(|symbol| {
                    // SAFETY: the symbol is only looked for, not called
                    unsafe { library.get::<*const c_void>(symbol.as_bytes()) }.is_err()
                });
                // the library stays open for the bindings, which open it again
                std::mem::forget(library);
                return absent.map(|symbol| format!("{name} is too old: it lacks {symbol}"));
            }
            Err(error) => {
                let reason = reason(&error);
                let absent = reason.contains("No such file");
                // another library that this one needs tells more than that another name is absent
                if why.is_none() || !absent {
                    why = Some(reason);
                }
            }
        }
    }
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("cannot open {}{why}", names[0]))
}

/// What the system's linker says: the loader's own text only names the call that failed.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// See the module.
#[derive(Debug)]
struct Driver {
    name: String,
    context: sys::CUcontext,
    stream: sys::CUstream,
    module: sys::CUmodule,
    blas: cublasHandle_t,
    functions: Mutex<BTreeMap<String, Function>>,
}

/// A kernel, and how much shared memory it may have so far.
#[derive(Clone, Copy, Debug)]
struct Function {
    function: sys::CUfunction,
    shared: usize,
}

// SAFETY: contexts, streams, modules and functions may be used from any thread once the context is current there, which
// every call sees to; a cuBLAS handle may be used from several threads one after another, which `functions`' lock sees
// to
unsafe impl Send for Driver {}
// SAFETY: see above
unsafe impl Sync for Driver {}

fn failed(what: &str) -> impl FnOnce(DriverError) -> LmError {
    move |error| {
        let name = error.error_name().ok();
        let name = name.map(|name| name.to_string_lossy().into_owned());
        LmError::Device(format!(
            "{what}: {}",
            name.unwrap_or_else(|| format!("{error:?}"))
        ))
    }
}

fn blas_failed(what: &str) -> impl FnOnce(CublasError) -> LmError {
    move |error| LmError::Device(format!("{what}: {:?}", error.0))
}

impl Driver {
    fn open(number: usize) -> Result<Self, LmError> {
        probe()?;
        let absent = |what: &str| {
            let what = what.to_owned();
            move |error: DriverError| {
                let LmError::Device(reason) = failed(&what)(error) else {
                    return LmError::NoDevice(what);
                };
                LmError::NoDevice(format!(
                    "no CUDA device: {reason}; look at it with nvidia-smi, or compute on the processor with \
                     `device = \"cpu\"`"
                ))
            }
        };
        driver::init().map_err(absent("cuInit"))?;
        let count = driver::device::get_count().map_err(absent("cuDeviceGetCount"))?;
        let ordinal = c_int::try_from(number).unwrap_or(c_int::MAX);
        if ordinal >= count {
            return Err(LmError::NoDevice(format!(
                "there is no CUDA device {number}: the driver shows {count}"
            )));
        }
        let device = driver::device::get(ordinal).map_err(absent("cuDeviceGet"))?;
        let name = driver::device::get_name(device).map_err(absent("cuDeviceGetName"))?;
        // SAFETY: the device is one that the driver gave; the context is kept for the life of the process
        let (context, stream) = unsafe {
            let context =
                driver::primary_ctx::retain(device).map_err(absent("cuDevicePrimaryCtxRetain"))?;
            driver::ctx::set_current(context).map_err(absent("cuCtxSetCurrent"))?;
            let stream = driver::stream::create(driver::stream::StreamKind::NonBlocking)
                .map_err(absent("cuStreamCreate"))?;
            (context, stream)
        };
        // Memory that is given back stays with the process: the next update wants it again.
        let mut threshold = u64::MAX;
        // SAFETY: the pool is the device's own, and the attribute is 64 bits wide
        unsafe {
            let pool = driver::device::get_default_mem_pool(device)
                .map_err(absent("cuDeviceGetDefaultMemPool"))?;
            driver::mem_pool::set_attribute(
                pool,
                sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                std::ptr::from_mut(&mut threshold).cast(),
            )
            .map_err(absent("cuMemPoolSetAttribute"))?;
        }
        // SAFETY: the image is a whole fat binary that lives as long as the program
        let module = unsafe { driver::module::load_data(starling_kernels::IMAGE.as_ptr().cast()) };
        let module = module.map_err(|error| {
            let LmError::Device(reason) = failed("cuModuleLoadData")(error) else {
                return LmError::NoDevice(name.clone());
            };
            LmError::NoDevice(format!(
                "{name} cannot run the kernels of this binary: {reason}; build for it with STARLING_CUDA_ARCHS, or \
                 bring a driver of CUDA 13.0 or later"
            ))
        })?;
        let blas = blas::create_handle().map_err(blas_failed("cublasCreate"))?;
        // SAFETY: handle and stream were made above
        unsafe {
            blas::set_stream(blas, stream.cast()).map_err(blas_failed("cublasSetStream"))?;
            // sums of bf16 products stay f32, also where cuBLAS cuts them in parts
            cublasSetMathMode(
                blas,
                cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION,
            )
            .result()
            .map_err(blas_failed("cublasSetMathMode"))?;
        }
        Ok(Self {
            name: format!("{name} (device {number})"),
            context,
            stream,
            module,
            blas,
            functions: Mutex::default(),
        })
    }

    /// Makes the device that of this thread.
    fn current(&self) -> Result<(), LmError> {
        // SAFETY: the context is kept for the life of the process
        unsafe { driver::ctx::set_current(self.context) }.map_err(failed("cuCtxSetCurrent"))
    }

    /// A kernel that may have this much shared memory.
    fn function(&self, name: &str, shared: usize) -> Result<sys::CUfunction, LmError> {
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut known = match functions.get(name) {
            Some(known) => *known,
            None => {
                let text = CString::new(name)
                    .map_err(|error| LmError::Device(format!("kernel `{name}`: {error}")))?;
                // SAFETY: the module was loaded from this program's image
                let function = unsafe { driver::module::get_function(self.module, text) };
                Function {
                    function: function.map_err(failed(name))?,
                    shared: PLAIN_SHARED,
                }
            }
        };
        if shared > known.shared {
            let bytes = c_int::try_from(shared)
                .map_err(|error| LmError::Device(format!("kernel `{name}`: {error}")))?;
            // SAFETY: the function is one of the module's
            unsafe {
                driver::function::set_function_attribute(
                    known.function,
                    sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    bytes,
                )
            }
            .map_err(failed(name))?;
            known.shared = shared;
        }
        functions.insert(name.to_owned(), known);
        Ok(known.function)
    }
}

fn data_type(precision: Precision) -> cudaDataType_t {
    match precision {
        Precision::F32 => cudaDataType_t::CUDA_R_32F,
        Precision::Bf16 => cudaDataType_t::CUDA_R_16BF,
    }
}

fn operation(factor: Factor) -> cublasOperation_t {
    if factor.transposed {
        cublasOperation_t::CUBLAS_OP_T
    } else {
        cublasOperation_t::CUBLAS_OP_N
    }
}

fn size(value: usize) -> Result<c_int, LmError> {
    c_int::try_from(value)
        .map_err(|_error| LmError::Device(format!("a matrix with a side of {value}")))
}

impl Board for Driver {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&self, bytes: usize) -> Result<u64, LmError> {
        self.current()?;
        // SAFETY: the stream was made when the device was opened; all work is done on it
        unsafe { driver::malloc_async(self.stream, bytes) }.map_err(|error| {
            let LmError::Device(reason) = failed("cuMemAllocAsync")(error) else {
                return LmError::Device(self.name.clone());
            };
            LmError::Device(format!(
                "{}: no memory for {bytes} bytes more ({reason}); use smaller chunks or batches, or `recompute`",
                self.name
            ))
        })
    }

    fn free(&self, address: u64) {
        // What cannot be given back is lost until the process ends; nobody could do anything about it.
        if self.current().is_ok() {
            // SAFETY: memory is freed once, by the one that holds it, behind all work that was asked for
            let _freed = unsafe { driver::free_async(address, self.stream) };
        }
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), LmError> {
        self.current()?;
        // SAFETY: the place is inside memory that was given; the driver has taken pageable bytes when the call returns
        unsafe { driver::memcpy_htod_async(address, bytes, self.stream) }
            .map_err(failed("cuMemcpyHtoDAsync"))
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), LmError> {
        self.current()?;
        // SAFETY: the place is inside memory that was given, and the bytes are waited for
        unsafe {
            driver::memcpy_dtoh_async(bytes, address, self.stream)
                .map_err(failed("cuMemcpyDtoHAsync"))?;
            driver::stream::synchronize(self.stream).map_err(failed("cuStreamSynchronize"))
        }
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<(), LmError> {
        self.current()?;
        // SAFETY: both places are inside memory that was given
        unsafe { driver::memcpy_dtod_async(to, from, bytes, self.stream) }
            .map_err(failed("cuMemcpyDtoDAsync"))
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), LmError> {
        self.current()?;
        // SAFETY: the place is inside memory that was given
        unsafe { driver::memset_d8_async(address, 0, bytes, self.stream) }
            .map_err(failed("cuMemsetD8Async"))
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), LmError> {
        self.current()?;
        let function = self.function(launch.name, launch.shared)?;
        let mut values: Vec<u64> = launch.args.iter().map(|arg| arg.word()).collect();
        let mut arguments: Vec<*mut c_void> = values
            .iter_mut()
            .map(|value| std::ptr::from_mut(value).cast())
            .collect();
        let [x, y, z] = launch.grid;
        // SAFETY: names and argument lists are those that the twins check in tests
        unsafe {
            driver::launch_kernel(
                function,
                (x, y, z),
                (launch.block, 1, 1),
                launch.shared as u32,
                self.stream,
                &mut arguments,
            )
        }
        .map_err(failed(launch.name))
    }

    fn product(&self, product: &Product) -> Result<(), LmError> {
        self.current()?;
        let (one, beta) = (1.0_f32, if product.add { 1.0_f32 } else { 0.0 });
        let _turn = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let [m, n, k] = [size(product.m)?, size(product.n)?, size(product.k)?];
        let input = data_type(product.input);
        // SAFETY: sizes and strides are those of matrices inside memory that was given, which the twins check in tests;
        // the two factors are read before the call returns
        unsafe {
            blas::gemm_ex(
                self.blas,
                operation(product.a),
                operation(product.b),
                m,
                n,
                k,
                std::ptr::from_ref(&one).cast(),
                product.a.address as *const c_void,
                input,
                size(product.a.stride)?,
                product.b.address as *const c_void,
                input,
                size(product.b.stride)?,
                std::ptr::from_ref(&beta).cast(),
                product.c as *mut c_void,
                data_type(product.output),
                size(product.c_stride)?,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(blas_failed("cublasGemmEx"))
    }
}
