//! `mevae`, the command line of the multi-entity VAE. All of it lives in [`cli`]; this file only picks the allocator.

mod cli;

// Training allocates and frees the same large buffers at every step; the system's allocator gives their pages back and faults
// them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
