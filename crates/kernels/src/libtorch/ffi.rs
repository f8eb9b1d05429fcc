//! The calls into the shim, and the only unsafe code of the workspace.
#![expect(unsafe_code, reason = "LibTorch's own interface is C++")]

use std::{
    error,
    ffi::{CStr, CString, c_char, c_void},
    fmt, ptr,
};

use tch::{Kind, Tensor};

/// What LibTorch, the driver or the run-time compiler says went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Error {}

/// Bytes that LibTorch's allocator holds on a device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In tensors.
    pub allocated: i64,
    /// The most in tensors since the last [`reset_peak`].
    pub allocated_peak: i64,
    /// Taken from the GPU, in tensors or kept for later ones.
    pub reserved: i64,
    /// The most taken from the GPU since the last [`reset_peak`].
    pub reserved_peak: i64,
}

#[repr(C)]
struct RawGpu {
    name: [c_char; 256],
    memory: u64,
    major: i32,
    minor: i32,
}

unsafe extern "C" {
    fn kernels_free(text: *mut c_char);
    fn kernels_versions(torch: *mut c_char, room: usize, runtime: *mut i64, driver: *mut i64) -> *mut c_char;
    fn kernels_card_count(count: *mut i32) -> *mut c_char;
    fn kernels_gpu(device: i32, gpu: *mut RawGpu) -> *mut c_char;
    fn kernels_memory(device: i32, memory: *mut Memory) -> *mut c_char;
    fn kernels_reset_peak(device: i32) -> *mut c_char;
    fn kernels_empty_cache(device: i32) -> *mut c_char;
    fn kernels_synchronize(device: i32) -> *mut c_char;
    fn kernels_matmul_precision(tf32: bool, reduced: bool) -> *mut c_char;
    fn kernels_prepare(device: i32, source: *const c_char, element: *const c_char, aligned: i32) -> *mut c_char;
    fn kernels_launch(
        device: i32,
        source: *const c_char,
        element: *const c_char,
        aligned: i32,
        name: *const c_char,
        grid_x: u32,
        grid_y: u32,
        block: u32,
        arguments: *mut *mut c_void,
    ) -> *mut c_char;
    fn kernels_flash(operands: *const *const c_void, longest: i64, scale: f64, given: *mut *mut c_void) -> *mut c_char;
    fn kernels_pool(pool: *mut u64) -> *mut c_char;
    fn kernels_graph_begin(device: i32, pool: *const u64, graph: *mut *mut c_void) -> *mut c_char;
    fn kernels_graph_end(graph: *mut c_void) -> *mut c_char;
    fn kernels_graph_abandon(graph: *mut c_void);
    fn kernels_graph_replay(graph: *mut c_void) -> *mut c_char;
    fn kernels_graph_drop(graph: *mut c_void);
}

/// What a call gave: null, or the text of an error.
fn result(text: *mut c_char) -> Result<(), Error> {
    if text.is_null() {
        return Ok(());
    }
    // SAFETY: what is not null is a string of the shim, ended by 0 and not read after it is freed.
    unsafe {
        let error = Error(CStr::from_ptr(text).to_string_lossy().into_owned());
        kernels_free(text);
        Err(error)
    }
}

fn index(device: usize) -> i32 {
    // LibTorch counts devices in 8 bits.
    i32::from(i8::try_from(device).unwrap_or(i8::MAX))
}

/// LibTorch's version, and CUDA's of LibTorch and of the driver as `1000·major + 10·minor`, 0 where there is none.
pub(super) fn versions() -> Result<(String, i64, i64), Error> {
    let mut torch = [0; 64];
    let (mut runtime, mut driver) = (0, 0);
    // SAFETY: the pointers are to locals, and the text gets no more than its room with its end.
    unsafe {
        result(kernels_versions(torch.as_mut_ptr(), torch.len(), &raw mut runtime, &raw mut driver))?;
        Ok((CStr::from_ptr(torch.as_ptr()).to_string_lossy().into_owned(), runtime, driver))
    }
}

/// How many devices the driver shows.
pub(super) fn card_count() -> Result<usize, Error> {
    let mut count = 0;
    // SAFETY: the pointer is to a local.
    result(unsafe { kernels_card_count(&raw mut count) })?;
    Ok(count.unsigned_abs() as usize)
}

/// Name, bytes of memory, and compute capability of a device.
pub(super) fn gpu(device: usize) -> Result<(String, u64, (i32, i32)), Error> {
    let mut gpu = RawGpu { name: [0; 256], memory: 0, major: 0, minor: 0 };
    // SAFETY: `RawGpu` has the layout of the shim's; the driver ends the name within its room.
    unsafe {
        result(kernels_gpu(index(device), &raw mut gpu))?;
        let name = CStr::from_ptr(gpu.name.as_ptr()).to_string_lossy().into_owned();
        Ok((name, gpu.memory, (gpu.major, gpu.minor)))
    }
}

/// What LibTorch's allocator holds on a CUDA device.
pub fn memory(device: usize) -> Result<Memory, Error> {
    let mut memory = Memory::default();
    // SAFETY: `Memory` has the layout of the shim's.
    result(unsafe { kernels_memory(index(device), &raw mut memory) })?;
    Ok(memory)
}

/// Lets peaks count from what is held at this moment.
pub fn reset_peak(device: usize) -> Result<(), Error> {
    // SAFETY: plain values.
    result(unsafe { kernels_reset_peak(index(device)) })
}

/// Gives back to the GPU what no tensor holds.
pub fn empty_cache(device: usize) -> Result<(), Error> {
    // SAFETY: plain values.
    result(unsafe { kernels_empty_cache(index(device)) })
}

/// Waits until everything launched on a CUDA device is done.
pub fn synchronize(device: usize) -> Result<(), Error> {
    // SAFETY: plain values.
    result(unsafe { kernels_synchronize(index(device)) })
}

/// How exactly matrix products are computed on CUDA.
///
/// `tf32` lets f32 products round their factors to 11 bits of precision; `reduced` lets bf16 and f16 products sum in their own precision where
/// that is faster. LibTorch starts without the first and with the second.
pub fn matmul_precision(tf32: bool, reduced: bool) -> Result<(), Error> {
    // SAFETY: plain values.
    result(unsafe { kernels_matmul_precision(tf32, reduced) })
}

const SOURCE: &CStr = match CStr::from_bytes_with_nul(concat!(include_str!("kernels.cu"), "\0").as_bytes()) {
    Ok(source) => source,
    Err(_) => panic!("the kernels' source holds a 0"),
};

/// The name of a kind in the kernels' source.
fn element(kind: Kind) -> Option<&'static CStr> {
    match kind {
        Kind::Double => Some(c"double"),
        Kind::Float => Some(c"float"),
        Kind::BFloat16 => Some(c"bf16"),
        Kind::Half => Some(c"f16"),
        _ => None,
    }
}

/// Whether there are kernels for a kind.
pub(super) fn has_kernels(kind: Kind) -> bool {
    element(kind).is_some()
}

fn named(kind: Kind) -> Result<&'static CStr, Error> {
    element(kind).ok_or_else(|| Error(format!("there are no kernels for {kind:?}")))
}

/// Compiles the kernels of a kind before they are first needed; see [`prepare`](super::prepare).
pub(super) fn prepare(device: usize, kind: Kind, aligned: bool) -> Result<(), Error> {
    let element = named(kind)?;
    // SAFETY: the strings are constants.
    result(unsafe { kernels_prepare(index(device), SOURCE.as_ptr(), element.as_ptr(), i32::from(aligned)) })
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    Tensor(&'a Tensor),
    Null,
    /// `int`.
    Flag(bool),
    I64(i64),
    U64(u64),
    U32(u32),
    F64(f64),
}

impl Argument<'_> {
    /// Its bytes, from the lowest on.
    fn bits(self) -> u64 {
        match self {
            Self::Tensor(tensor) => tensor.data_ptr() as u64,
            Self::Null => 0,
            Self::Flag(value) => u64::from(value),
            Self::I64(value) => value as u64,
            Self::U64(value) => value,
            Self::U32(value) => u64::from(value),
            Self::F64(value) => value.to_bits(),
        }
    }
}

/// Which kernel, and over how many blocks of how many threads.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) device: usize,
    pub(super) kind: Kind,
    /// Whether every line of every tensor starts at a multiple of 16 bytes.
    pub(super) aligned: bool,
    pub(super) name: String,
    pub(super) grid: (i64, i64),
    pub(super) block: u32,
}

/// Launches a kernel on the device's stream of this thread.
///
/// The arguments are those of the kernel of that name in `kernels.cu`, in their order and types, and its tensors are contiguous, of the
/// sizes it takes and on the device: this is what the callers in `cuda` see to.
pub(super) fn launch<const N: usize>(launch: &Launch, arguments: [Argument<'_>; N]) -> Result<(), Error> {
    if launch.grid.0 == 0 || launch.grid.1 == 0 {
        return Ok(());
    }
    let element = named(launch.kind)?;
    let too_large = |_| Error(format!("too many blocks for kernel {}: {:?}", launch.name, launch.grid));
    let (x, y) = (u32::try_from(launch.grid.0).map_err(too_large)?, u32::try_from(launch.grid.1).map_err(too_large)?);
    let name = CString::new(launch.name.as_str()).map_err(|_| Error("a kernel's name holds a 0".into()))?;
    let mut values = arguments.map(Argument::bits);
    let mut places = values.each_mut().map(|value| ptr::from_mut(value).cast::<c_void>());
    // SAFETY: every place holds 8 bytes, as many as the largest parameter, and outlives the call, which copies them; smaller parameters are
    // their lowest bytes on a little-endian machine, which those with CUDA are. The tensors are alive here, and LibTorch's allocator hands
    // their memory on in the stream's order, so that it stays theirs until the kernel is done.
    result(unsafe {
        kernels_launch(
            index(launch.device),
            SOURCE.as_ptr(),
            element.as_ptr(),
            i32::from(launch.aligned),
            name.as_ptr(),
            x,
            y,
            launch.block,
            places.as_mut_ptr(),
        )
    })
}

/// LibTorch's flash attention over packed sequences: its output `[tokens, heads, d_head]`, the logarithms of the sums, and what its
/// generator leaves, without dropout. `starts` is 32-bit.
pub(super) fn flash(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    starts: &Tensor,
    longest: i64,
    scale: f64,
) -> Result<[Tensor; 4], Error> {
    let operands = [q, k, v, starts].map(|tensor| tensor.as_ptr().cast::<c_void>());
    let mut given = [ptr::null_mut::<c_void>(); 4];
    // SAFETY: the operands are LibTorch's tensors, alive during the call, which takes handles of its own; it fills all places where it gives
    // no error, each with a tensor that is ours from then on.
    unsafe {
        result(kernels_flash(operands.as_ptr(), longest, scale, given.as_mut_ptr()))?;
        Ok(given.map(|tensor| Tensor::from_ptr(tensor.cast())))
    }
}

/// Memory that CUDA graphs share: what one leaves free the next may use, so they are to be replayed in the order of their capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool([u64; 2]);

impl Pool {
    /// A pool of its own.
    pub fn new() -> Result<Self, Error> {
        let mut pool = [0; 2];
        // SAFETY: the pointer is to two numbers.
        result(unsafe { kernels_pool(pool.as_mut_ptr()) })?;
        Ok(Self(pool))
    }
}

/// A capture under way.
#[derive(Debug)]
struct Capture(*mut c_void);

impl Capture {
    fn begin(device: usize, pool: Pool) -> Result<Self, Error> {
        let mut graph = ptr::null_mut();
        // SAFETY: the pointers are to locals; the shim fills `graph` where it gives no error.
        result(unsafe { kernels_graph_begin(index(device), pool.0.as_ptr(), &raw mut graph) })?;
        Ok(Self(graph))
    }

    fn end(self, pool: Pool) -> Result<Graph, Error> {
        let graph = Graph { handle: self.0, pool };
        std::mem::forget(self); // the graph drops the handle from here on
        // SAFETY: the handle is alive, and its capture has not been ended.
        result(unsafe { kernels_graph_end(graph.handle) })?;
        Ok(graph)
    }
}

impl Drop for Capture {
    /// Where the work panicked: the stream is the former one again, and nothing is left of the graph.
    fn drop(&mut self) {
        // SAFETY: the handle is alive, its capture has not been ended, and nobody uses it afterwards.
        unsafe { kernels_graph_abandon(self.0) }
    }
}

/// A sequence of launches that was recorded once and is replayed as one.
///
/// A replay reads and writes the memory that the captured work did. What came from outside (parameters, buffers of a batch) is read where it
/// lay, so its owner keeps it, and a second handle to it keeps Burn from writing over it; what the work made and handed out is written anew
/// by every replay. Work that reads a value back, or draws random numbers on the host, cannot be captured, or repeats what it drew.
#[derive(Debug)]
pub struct Graph {
    handle: *mut c_void,
    pool: Pool,
}

// SAFETY: a graph belongs to a device, not to the thread that captured it.
unsafe impl Send for Graph {}

impl Graph {
    /// Captures what `work` launches on a CUDA device, on a stream and in a pool of its own or in `pool`, and gives the graph with what
    /// `work` gave. Nothing is computed yet.
    ///
    /// The same work must have run before: what LibTorch or this crate makes at a first call (libraries' handles, compiled kernels) cannot
    /// be made during a capture. Everything launched on the device is waited for. A panic of `work` ends the capture and goes on.
    pub fn capture<R>(device: usize, pool: Option<Pool>, work: impl FnOnce() -> R) -> Result<(Self, R), Error> {
        let pool = pool.map_or_else(Pool::new, Ok)?;
        let capture = Capture::begin(device, pool)?;
        let given = work();
        Ok((capture.end(pool)?, given))
    }

    /// Launches the captured work on the device's stream of this thread.
    pub fn replay(&mut self) -> Result<(), Error> {
        // SAFETY: the handle is alive, and this is the only user.
        result(unsafe { kernels_graph_replay(self.handle) })
    }

    /// The memory it works in, for graphs that are replayed after it.
    pub fn pool(&self) -> Pool {
        self.pool
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is alive, and nobody uses it afterwards.
        unsafe { kernels_graph_drop(self.handle) }
    }
}
