//! Compiles the kernels: with nvcc for the device (`cuda`), with the C++ compiler for tests (`twins`).

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=cuda");
    println!("cargo:rerun-if-changed=twin");
    twins();
    device()
}

#[cfg(feature = "twins")]
fn twins() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .define("STARLING_TWIN", None)
        // threads are switched by jumps from stack to stack, which fortified libraries refuse
        .flag("-U_FORTIFY_SOURCE")
        // a multiplication and an addition are two roundings, on every processor
        .flag_if_supported("-ffp-contract=off")
        .include("twin")
        .include("cuda")
        .file("twin/twin.cpp")
        .compile("starling_twins");
}

#[cfg(not(feature = "twins"))]
fn twins() {}

/// One image with machine code for each generation of devices and, for later ones, the last one's PTX.
#[cfg(feature = "cuda")]
fn device() -> Result<(), Box<dyn Error>> {
    use std::env;
    use std::path::PathBuf;
    use std::process::Command;

    for name in ["NVCC", "CUDA_HOME", "STARLING_CUDA_ARCHS", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let nvcc = env::var_os("NVCC").map(PathBuf::from).unwrap_or_else(|| {
        env::var_os("CUDA_HOME").map_or_else(
            || PathBuf::from("nvcc"),
            |home| PathBuf::from(home).join("bin/nvcc"),
        )
    });
    let archs = env::var("STARLING_CUDA_ARCHS").unwrap_or_else(|_| "80 90".to_owned());
    let image = PathBuf::from(env::var("OUT_DIR")?).join("kernels.fatbin");
    let mut command = Command::new(&nvcc);
    command.args(["-fatbin", "-O3", "-std=c++17", "--threads", "2"]);
    let archs: Vec<&str> = archs.split_whitespace().collect();
    for arch in &archs {
        command.arg(format!("-gencode=arch=compute_{arch},code=sm_{arch}"));
    }
    let last = archs.last().ok_or("STARLING_CUDA_ARCHS is empty")?;
    command.arg(format!("-gencode=arch=compute_{last},code=compute_{last}"));
    command.arg("-o").arg(&image).arg("cuda/all.cu");
    let status = command.status().map_err(|error| {
        format!(
            "{}: {error}; the feature `cuda` needs NVIDIA's compiler: run scripts/cuda-build.sh",
            nvcc.display()
        )
    })?;
    if !status.success() {
        return Err(format!("{} failed: {status}", nvcc.display()).into());
    }
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn device() -> Result<(), Box<dyn Error>> {
    Ok(())
}
