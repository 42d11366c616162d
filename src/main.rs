//! `mevae`, the command line of the multi-entity VAE. All of it lives in [`cli`]; this file picks the allocator and
//! keeps candle's threads out of the way.

mod cli;

// Training allocates and frees the same large buffers at every step; the system's allocator gives their pages back and faults
// them in again each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";
    // What is left to candle's own operations is small, and the threads that it would wake for the larger ones wait spinning, on
    // the cores that ours work on.
    if std::env::var_os(CANDLE_THREADS).is_none() {
        // SAFETY: this is the first thing the program does: no other thread exists that could read the environment.
        unsafe { std::env::set_var(CANDLE_THREADS, "1") };
    }
    // A step's memory is used again in the next one. The allocator would give it back to the system between them, which clears each page
    // that is asked for anew: a tenth of a step.
    const PURGE_DELAY: i32 = 15; // `mi_option_purge_delay` in mimalloc.h, of every version 2 and 3
    const MILLISECONDS: std::ffi::c_long = 10_000;
    // SAFETY: an option is an atomic number, and mimalloc ignores those that it does not know.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, MILLISECONDS) };
    cli::main()
}
