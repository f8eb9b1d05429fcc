// What LibTorch has and `tch` does not expose: launches of our own kernels on its streams, the allocator's statistics, CUDA graphs, the
// precision of matrix products, and facts about devices.
//
// Every function returns null, or the text of what went wrong, to be freed by kernels_free; no exception leaves. The driver and the run-time
// compiler are opened when first needed, so that a program linked with this starts where there is neither.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <torch/version.h>

#ifdef KERNELS_CUDA
#include <dirent.h>
#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace {

char* copied(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) std::abort();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// Runs `work`; the text of what it throws.
template <typename Work> char* guarded(Work&& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return copied(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return copied(error.what());
  } catch (...) {
    return copied("an exception of an unknown type");
  }
}

void copy_text(const std::string& text, char* to, size_t room) {
  const size_t length = std::min(text.size(), room - 1);
  std::memcpy(to, text.data(), length);
  to[length] = 0;
}

}  // namespace

extern "C" {

// In bytes; the allocator's, not the GPU's.
struct KernelsMemory {
  int64_t allocated, allocated_peak, reserved, reserved_peak;
};

struct KernelsGpu {
  char name[256];
  uint64_t memory;
  int32_t major, minor;
};

void kernels_free(char* text) { std::free(text); }

// As 1000·major + 10·minor: 0 where LibTorch was built without CUDA, or where there is no driver.
char* kernels_versions(char* torch, size_t room, int64_t* runtime, int64_t* driver);
char* kernels_card_count(int32_t* count);
char* kernels_gpu(int32_t device, KernelsGpu* gpu);
char* kernels_memory(int32_t device, KernelsMemory* memory);
char* kernels_reset_peak(int32_t device);
char* kernels_empty_cache(int32_t device);
char* kernels_synchronize(int32_t device);
char* kernels_matmul_precision(bool tf32, bool reduced);
char* kernels_prepare(int32_t device, const char* source, const char* element, int32_t aligned);
char* kernels_launch(int32_t device, const char* source, const char* element, int32_t aligned, const char* name, uint32_t grid_x,
                     uint32_t grid_y, uint32_t block, void** arguments);
char* kernels_flash(const void* const operands[4], int64_t longest, double scale, void* given[4]);
char* kernels_pool(uint64_t pool[2]);
char* kernels_graph_begin(int32_t device, const uint64_t pool[2], void** graph);
char* kernels_graph_end(void* graph);
void kernels_graph_abandon(void* graph);
char* kernels_graph_replay(void* graph);
void kernels_graph_drop(void* graph);

char* kernels_matmul_precision(bool tf32, bool reduced) {
  return guarded([&] {
    auto& context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowBF16ReductionCuBLAS(reduced);
    context.setAllowFP16ReductionCuBLAS(reduced);
  });
}

}  // extern "C"

#ifndef KERNELS_CUDA

namespace {
char* absent() { return copied("this program was built against a LibTorch without CUDA"); }
}  // namespace

extern "C" {
char* kernels_versions(char* torch, size_t room, int64_t* runtime, int64_t* driver) {
  copy_text(TORCH_VERSION, torch, room);
  *runtime = *driver = 0;
  return nullptr;
}
char* kernels_card_count(int32_t*) { return absent(); }
char* kernels_gpu(int32_t, KernelsGpu*) { return absent(); }
char* kernels_memory(int32_t, KernelsMemory*) { return absent(); }
char* kernels_reset_peak(int32_t) { return absent(); }
char* kernels_empty_cache(int32_t) { return absent(); }
char* kernels_synchronize(int32_t) { return absent(); }
char* kernels_prepare(int32_t, const char*, const char*, int32_t) { return absent(); }
char* kernels_launch(int32_t, const char*, const char*, int32_t, const char*, uint32_t, uint32_t, uint32_t, void**) {
  return absent();
}
char* kernels_flash(const void* const*, int64_t, double, void**) { return absent(); }
char* kernels_pool(uint64_t*) { return absent(); }
char* kernels_graph_begin(int32_t, const uint64_t*, void**) { return absent(); }
char* kernels_graph_end(void*) { return absent(); }
void kernels_graph_abandon(void*) {}
char* kernels_graph_replay(void*) { return absent(); }
void kernels_graph_drop(void*) {}
}  // extern "C"

#else

namespace {

[[noreturn]] void fail(const std::string& text) { throw std::runtime_error(text); }

template <typename Function> void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) fail(std::string("the library has no function ") + name);
}

// The folder of the library that `symbol` is in, with a slash.
std::string folder_of(const void* symbol) {
  Dl_info info;
  if (dladdr(symbol, &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

// The driver's interface as far as it is used here; declared by hand, since its header need not be there.
struct Driver {
  int (*init)(unsigned);
  int (*version)(int*);
  int (*count)(int*);
  int (*get)(int*, int);
  int (*name)(char*, int, int);
  int (*memory)(size_t*, int);
  int (*attribute)(int*, int, int);
  int (*describe)(int, const char**);
  int (*context)(void**);
  int (*retain)(void**, int);
  int (*enter)(void*);
  int (*load)(void**, const void*);
  int (*function)(void**, void*, const char*);
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);

  Driver() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) fail("no NVIDIA driver: libcuda.so.1 does not open");
    find(library, "cuInit", init);
    find(library, "cuDriverGetVersion", version);
    find(library, "cuDeviceGetCount", count);
    find(library, "cuDeviceGet", get);
    find(library, "cuDeviceGetName", name);
    find(library, "cuDeviceTotalMem_v2", memory);
    find(library, "cuDeviceGetAttribute", attribute);
    find(library, "cuGetErrorString", describe);
    find(library, "cuCtxGetCurrent", context);
    find(library, "cuDevicePrimaryCtxRetain", retain);
    find(library, "cuCtxSetCurrent", enter);
    find(library, "cuModuleLoadData", load);
    find(library, "cuModuleGetFunction", function);
    find(library, "cuLaunchKernel", launch);
    check(init(0), "starting the driver");
  }

  void check(int code, const std::string& what) const {
    if (code == 0) return;
    const char* text = nullptr;
    if (describe(code, &text) != 0 || text == nullptr) text = "unknown error";
    fail(what + ": " + text + " (CUDA error " + std::to_string(code) + ")");
  }
};

const Driver& driver() {
  static const Driver opened;  // tried again by the next caller if it throws
  return opened;
}

// The run-time compiler.
struct Compiler {
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile)(void*, int, const char* const*);
  int (*destroy)(void**);
  int (*log_size)(void*, size_t*);
  int (*log)(void*, char*);
  int (*cubin_size)(void*, size_t*);
  int (*cubin)(void*, char*);
  int (*ptx_size)(void*, size_t*);
  int (*ptx)(void*, char*);
  int (*arch_count)(int*);
  int (*archs)(int*);
  const char* (*describe)(int);

  Compiler() {
    void* library = open();
    find(library, "nvrtcCreateProgram", create);
    find(library, "nvrtcCompileProgram", compile);
    find(library, "nvrtcDestroyProgram", destroy);
    find(library, "nvrtcGetProgramLogSize", log_size);
    find(library, "nvrtcGetProgramLog", log);
    find(library, "nvrtcGetCUBINSize", cubin_size);
    find(library, "nvrtcGetCUBIN", cubin);
    find(library, "nvrtcGetPTXSize", ptx_size);
    find(library, "nvrtcGetPTX", ptx);
    find(library, "nvrtcGetNumSupportedArchs", arch_count);
    find(library, "nvrtcGetSupportedArchs", archs);
    find(library, "nvrtcGetErrorString", describe);
    open_builtins(folder_of(reinterpret_cast<const void*>(create)));
  }

  static void* open() {
    const std::string torch = folder_of(reinterpret_cast<const void*>(&at::cuda::graph_pool_handle));
    // LibTorch's own stub names the compiler of its CUDA version and knows where that lies; held open, it makes the plain names findable.
    for (const std::string& stub : {std::string("libcaffe2_nvrtc.so"), torch + "libcaffe2_nvrtc.so"}) {
      if (dlopen(stub.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr) break;
    }
    const std::vector<std::string> folders = {
        "", torch, torch + "../../nvidia/cu13/lib/", torch + "../../nvidia/cuda_nvrtc/lib/", "/usr/local/cuda/lib64/"};
    std::string tried;
    for (const std::string& folder : folders) {
      for (const int major : versions()) {
        const std::string path = folder + "libnvrtc.so." + std::to_string(major);
        if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
        tried += " " + path;
      }
    }
    fail("the run-time compiler of CUDA (NVRTC) was not found; tried" + tried +
         "; it comes with the CUDA toolkit and with the Python package nvidia-cuda-nvrtc: put its folder on LD_LIBRARY_PATH");
  }

  // LibTorch's own CUDA version first.
  static std::vector<int> versions() {
    const int own = CUDART_VERSION / 1000;
    return own == 12 ? std::vector<int>{12, 13} : std::vector<int>{own, 12};
  }

  // The compiler opens this companion by its plain name, which is found once it is loaded.
  static void open_builtins(const std::string& folder) {
    DIR* listing = folder.empty() ? nullptr : opendir(folder.c_str());
    if (listing == nullptr) return;
    const std::string prefix = "libnvrtc-builtins.so";
    while (const dirent* entry = readdir(listing)) {
      const std::string name = entry->d_name;
      if (name.compare(0, prefix.size(), prefix) == 0) dlopen((folder + name).c_str(), RTLD_NOW | RTLD_GLOBAL);
    }
    closedir(listing);
  }

  void check(int code, const std::string& what) const {
    if (code != 0) fail(what + ": " + describe(code));
  }

  // `source` for a GPU of compute capability `capability` (90 for 9.0), ready to load.
  std::vector<char> image(const char* source, const std::string& element, bool aligned, int capability) const {
    int count = 0;
    check(arch_count(&count), "asking the compiler what it knows");
    std::vector<int> known(count);
    check(archs(known.data()), "asking the compiler what it knows");
    // A GPU newer than the compiler gets an intermediate form, which the driver finishes.
    int target = 0;
    for (const int arch : known) {
      if (arch <= capability) target = std::max(target, arch);
    }
    if (target == 0) fail("the run-time compiler knows no architecture for compute capability " + std::to_string(capability));
    const bool exact = target == capability;
    const std::string arch = (exact ? "--gpu-architecture=sm_" : "--gpu-architecture=compute_") + std::to_string(target);
    const std::string element_option = "-DELEMENT=" + element, aligned_option = aligned ? "-DALIGNED=1" : "-DALIGNED=0";
    const char* options[] = {arch.c_str(), "--std=c++17", element_option.c_str(), aligned_option.c_str()};

    void* program = nullptr;
    check(create(&program, source, "kernels.cu", 0, nullptr, nullptr), "handing the kernels to the compiler");
    struct Owned {
      const Compiler& compiler;
      void* program;
      ~Owned() { compiler.destroy(&program); }
    } owned{*this, program};
    const int code = compile(program, 4, options);
    if (code != 0) {
      size_t size = 0;
      std::string text;
      if (log_size(program, &size) == 0 && size > 1) {
        text.resize(size);
        log(program, &text[0]);
      }
      fail(std::string("compiling the kernels: ") + describe(code) + "\n" + text.c_str());
    }
    size_t size = 0;
    check((exact ? cubin_size : ptx_size)(program, &size), "reading the compiled kernels");
    std::vector<char> image(size);
    check((exact ? cubin : ptx)(program, image.data()), "reading the compiled kernels");
    return image;
  }
};

const Compiler& compiler() {
  static const Compiler opened;
  return opened;
}

int capability_of(int device, int32_t* major, int32_t* minor) {
  int handle = 0, high = 0, low = 0;
  driver().check(driver().get(&handle, device), "opening device " + std::to_string(device));
  driver().check(driver().attribute(&high, 75, handle), "reading the compute capability");
  driver().check(driver().attribute(&low, 76, handle), "reading the compute capability");
  if (major != nullptr) *major = high;
  if (minor != nullptr) *minor = low;
  return 10 * high + low;
}

// A thread that has not called the runtime yet has no context; LibTorch's is the device's primary one.
void enter_context(int device) {
  void* context = nullptr;
  driver().check(driver().context(&context), "asking for the context");
  if (context != nullptr) return;
  int handle = 0;
  driver().check(driver().get(&handle, device), "opening device " + std::to_string(device));
  driver().check(driver().retain(&context, handle), "opening the primary context");
  driver().check(driver().enter(context), "entering the primary context");
}

c10::Device cuda(int32_t device) { return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device)); }

// Compiled kernels by device, element and alignment; they live as long as the program.
struct Module {
  void* module = nullptr;
  std::unordered_map<std::string, void*> functions;
};

std::mutex modules_lock;
std::unordered_map<std::string, Module>& modules() {
  static auto* all = new std::unordered_map<std::string, Module>();
  return *all;
}

std::string key_of(int32_t device, const char* element, bool aligned) {
  return std::to_string(device) + (aligned ? " aligned " : " ") + element;
}

// Under the lock, the device entered.
Module& module_of(int32_t device, const char* source, const char* element, bool aligned) {
  Module& module = modules()[key_of(device, element, aligned)];
  if (module.module == nullptr) {
    const std::vector<char> image = compiler().image(source, element, aligned, capability_of(device, nullptr, nullptr));
    driver().check(driver().load(&module.module, image.data()), "loading the kernels");
  }
  return module;
}

// The one stream of a device that captures are made on. The allocator hands a block on within its stream only: captures on streams of their
// own could not share a pool's memory.
c10::cuda::CUDAStream capture_stream(c10::DeviceIndex index) {
  static std::mutex lock;
  static auto* all = new std::unordered_map<int, c10::cuda::CUDAStream>();
  const std::lock_guard<std::mutex> held(lock);
  return all->try_emplace(index, c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index)).first->second;
}

struct Graph {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream before, during;
  c10::cuda::MempoolId_t pool;
};

}  // namespace

extern "C" {

char* kernels_versions(char* torch, size_t room, int64_t* runtime, int64_t* driver_version) {
  return guarded([&] {
    copy_text(TORCH_VERSION, torch, room);
    *runtime = CUDART_VERSION;
    *driver_version = 0;
    int version = 0;
    try {
      if (driver().version(&version) == 0) *driver_version = version;
    } catch (const std::exception&) {
      // No driver: said by the 0.
    }
  });
}

char* kernels_card_count(int32_t* count) {
  return guarded([&] {
    int found = 0;
    driver().check(driver().count(&found), "counting devices");
    *count = found;
  });
}

char* kernels_gpu(int32_t device, KernelsGpu* gpu) {
  return guarded([&] {
    int handle = 0;
    size_t bytes = 0;
    driver().check(driver().get(&handle, device), "opening device " + std::to_string(device));
    driver().check(driver().name(gpu->name, sizeof(gpu->name), handle), "reading the name");
    driver().check(driver().memory(&bytes, handle), "reading the memory");
    gpu->memory = bytes;
    capability_of(device, &gpu->major, &gpu->minor);
  });
}

char* kernels_memory(int32_t device, KernelsMemory* memory) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device));
    memory->allocated = stats.allocated_bytes[0].current;  // 0: large and small pools together
    memory->allocated_peak = stats.allocated_bytes[0].peak;
    memory->reserved = stats.reserved_bytes[0].current;
    memory->reserved_peak = stats.reserved_bytes[0].peak;
  });
}

char* kernels_reset_peak(int32_t device) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
  });
}

char* kernels_empty_cache(int32_t device) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const c10::DeviceGuard guard(cuda(device));
    c10::cuda::CUDACachingAllocator::emptyCache();
  });
}

char* kernels_synchronize(int32_t device) {
  return guarded([&] {
    const c10::DeviceGuard guard(cuda(device));
    c10::cuda::device_synchronize();
  });
}

char* kernels_prepare(int32_t device, const char* source, const char* element, int32_t aligned) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const c10::DeviceGuard guard(cuda(device));
    enter_context(device);
    const std::string key = key_of(device, element, aligned != 0);
    {
      const std::lock_guard<std::mutex> lock(modules_lock);
      if (modules()[key].module != nullptr) return;
    }
    // Compiled outside of the lock, so that threads may compile several at once.
    const std::vector<char> image = compiler().image(source, element, aligned != 0, capability_of(device, nullptr, nullptr));
    const std::lock_guard<std::mutex> lock(modules_lock);
    Module& module = modules()[key];
    if (module.module == nullptr) driver().check(driver().load(&module.module, image.data()), "loading the kernels");
  });
}

char* kernels_launch(int32_t device, const char* source, const char* element, int32_t aligned, const char* name, uint32_t grid_x,
                     uint32_t grid_y, uint32_t block, void** arguments) {
  return guarded([&] {
    const c10::DeviceGuard guard(cuda(device));
    enter_context(device);
    void* function = nullptr;
    {
      const std::lock_guard<std::mutex> lock(modules_lock);
      Module& module = module_of(device, source, element, aligned != 0);
      void*& found = module.functions[name];
      if (found == nullptr) driver().check(driver().function(&found, module.module, name), std::string("finding kernel ") + name);
      function = found;
    }
    void* stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
    driver().check(driver().launch(function, grid_x, grid_y, 1, block, 1, 1, 0, stream, arguments, nullptr),
                   std::string("launching kernel ") + name);
  });
}

// Handles of tensors go in and come out as the Rust binding has them: pointers to at::Tensor.
char* kernels_flash(const void* const operands[4], int64_t longest, double scale, void* given[4]) {
  return guarded([&] {
    const auto of = [&](int at) -> const at::Tensor& { return *static_cast<const at::Tensor*>(operands[at]); };
    const at::Tensor& starts = of(3);
    const auto found = at::_flash_attention_forward(of(0), of(1), of(2), starts, starts, longest, longest, /*dropout_p=*/0.0,
                                                    /*is_causal=*/false, /*return_debug_mask=*/false, scale);
    // All four or none.
    auto y = std::make_unique<at::Tensor>(std::get<0>(found)), sums = std::make_unique<at::Tensor>(std::get<1>(found));
    auto seed = std::make_unique<at::Tensor>(std::get<2>(found)), offset = std::make_unique<at::Tensor>(std::get<3>(found));
    given[0] = y.release();
    given[1] = sums.release();
    given[2] = seed.release();
    given[3] = offset.release();
  });
}

char* kernels_pool(uint64_t pool[2]) {
  return guarded([&] {
    const auto handle = at::cuda::graph_pool_handle();
    pool[0] = handle.first;
    pool[1] = handle.second;
  });
}

// Enters a stream of its own and begins to capture what this thread launches there.
char* kernels_graph_begin(int32_t device, const uint64_t pool[2], void** graph) {
  return guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const auto index = static_cast<c10::DeviceIndex>(device);
    const c10::DeviceGuard guard(cuda(device));
    c10::cuda::device_synchronize();
    auto owned = std::unique_ptr<Graph>(new Graph{
        {},
        c10::cuda::getCurrentCUDAStream(index),
        capture_stream(index),
        {pool[0], pool[1]},
    });
    c10::cuda::setCurrentCUDAStream(owned->during);
    try {
      owned->graph.capture_begin(owned->pool, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      c10::cuda::setCurrentCUDAStream(owned->before);
      throw;
    }
    *graph = owned.release();
  });
}

// Ends the capture and goes back to the stream from before, also where the capture failed; then the graph is still to be dropped.
char* kernels_graph_end(void* graph) {
  auto* of = static_cast<Graph*>(graph);
  char* error = guarded([&] {
    const c10::DeviceGuard guard(of->during.device());
    try {
      of->graph.capture_end();
    } catch (...) {
      // The allocator is told before LibTorch would have, whose way ends at the first failure.
      try {
        c10::cuda::CUDACachingAllocator::endAllocateToPool(of->during.device_index(), of->pool);
      } catch (...) {
      }
      throw;
    }
  });
  char* restored = guarded([&] { c10::cuda::setCurrentCUDAStream(of->before); });
  if (error == nullptr) return restored;
  std::free(restored);
  return error;
}

// Ends a capture whose work did not finish.
void kernels_graph_abandon(void* graph) {
  std::free(kernels_graph_end(graph));
  kernels_graph_drop(graph);
}

char* kernels_graph_replay(void* graph) {
  return guarded([&] { static_cast<Graph*>(graph)->graph.replay(); });
}

void kernels_graph_drop(void* graph) {
  std::free(guarded([&] { delete static_cast<Graph*>(graph); }));
}

}  // extern "C"

#endif
