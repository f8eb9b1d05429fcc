//! Compiles the shim over LibTorch, behind the feature `tch`, against the same LibTorch as `torch-sys`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "tch")]
    libtorch::build();
}

#[cfg(feature = "tch")]
mod libtorch {
    use std::{
        env,
        path::{Path, PathBuf},
    };

    fn variable(name: &str) -> Option<PathBuf> {
        println!("cargo:rerun-if-env-changed={name}");
        env::var_os(name).map(PathBuf::from)
    }

    /// The first of `folders` that holds `file`; a panic with the way out where none does.
    fn holding<'a>(file: &str, folders: &'a [PathBuf], way_out: &str) -> &'a Path {
        folders.iter().find(|folder| folder.join(file).exists()).unwrap_or_else(|| {
            let tried: Vec<_> = folders.iter().map(|folder| format!("\n  {}", folder.display())).collect();
            panic!("{file} was not found; looked in{}\n{way_out}", tried.concat())
        })
    }

    /// Whether LibTorch has a part of that name.
    fn has(lib: &Path, name: &str) -> bool {
        lib.join(format!("lib{name}.so")).exists()
    }

    pub(super) fn build() {
        println!("cargo:rerun-if-changed=src/libtorch/shim.cpp");
        // The folder of LibTorch's libraries, as `torch-sys` found it.
        let lib = variable("DEP_TCH_LIBTORCH_LIB")
            .unwrap_or_else(|| panic!("torch-sys names no folder of libraries: LibTorch is wanted on Linux or macOS"));
        let torch = lib.parent().map_or_else(|| lib.clone(), Path::to_path_buf);
        let folders: Vec<_> = [variable("LIBTORCH_INCLUDE"), Some(torch.clone())].into_iter().flatten().collect();
        let include = holding(
            "include/ATen/Context.h",
            &folders,
            "Set LIBTORCH to an unpacked LibTorch or torch wheel (the folder that holds lib and include), or \
             LIBTORCH_USE_PYTORCH=1 to take that of python3.",
        )
        .join("include");
        let abi = variable("LIBTORCH_CXX11_ABI").unwrap_or_else(|| PathBuf::from("1"));

        let mut shim = cc::Build::new();
        shim.cpp(true).std("c++17").pic(true).warnings(false).file("src/libtorch/shim.cpp");
        shim.include(&include).include(include.join("torch/csrc/api/include"));
        shim.define("_GLIBCXX_USE_CXX11_ABI", abi.to_str());
        let cuda = has(&lib, "torch_cuda") && has(&lib, "c10_cuda");
        if cuda {
            let beside = torch.parent().unwrap_or(&torch).join("nvidia");
            let folders = [
                variable("CUDA_INCLUDE"),
                variable("CUDA_HOME").map(|home| home.join("include")),
                Some(beside.join("cu13/include")),
                Some(beside.join("cuda_runtime/include")),
                Some(beside.join("cuda_nvcc/include")),
                Some(PathBuf::from("/usr/local/cuda/include")),
            ];
            let folders: Vec<_> = folders.into_iter().flatten().collect();
            shim.define("KERNELS_CUDA", None);
            for header in ["cuda_runtime_api.h", "crt/host_defines.h"] {
                shim.include(holding(
                    header,
                    &folders,
                    "This LibTorch has CUDA, and its headers need those of the CUDA runtime. They come with the CUDA toolkit \
                     (set CUDA_HOME), and with the Python packages nvidia-cuda-runtime and nvidia-cuda-crt of one version \
                     (nvidia-cuda-runtime-cu12 and nvidia-cuda-nvcc-cu12 for CUDA 12): install them beside torch, or unpack \
                     both into one folder and set CUDA_INCLUDE to the folder that holds cuda_runtime_api.h. A LibTorch \
                     without CUDA needs none of this.",
                ));
            }
        }
        shim.compile("kernels_shim");

        println!("cargo:rustc-link-search=native={}", lib.display());
        let parts: &[&str] = if cuda { &["torch_cuda", "c10_cuda", "torch_cpu", "c10"] } else { &["torch_cpu", "c10"] };
        for part in parts {
            println!("cargo:rustc-link-lib={part}");
        }
    }
}
