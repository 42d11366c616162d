//! Orderly stops: the step at hand is finished, the state saved. Asked for by Ctrl-C, SIGTERM, the loss of the terminal (SIGHUP),
//! or a reader of the messages that went away.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From here on a first signal asks for an orderly stop; a second one ends the program at once.
pub fn listen() -> anyhow::Result<()> {
    let signals = [SIGINT, SIGTERM];
    #[cfg(unix)]
    let signals = {
        use signal_hook::consts::{SIGHUP, SIGXFSZ};
        // A write beyond `ulimit -f` then fails like any other, with a message, instead of ending the program.
        register(SIGXFSZ, Arc::default())?;
        signals.into_iter().chain((!ignores_hangups()).then_some(SIGHUP))
    };
    for signal in signals {
        // The shutdown first: it looks at what an earlier signal has left.
        register_conditional_shutdown(signal, 130, Arc::clone(&REQUESTED))?;
        register(signal, Arc::clone(&REQUESTED))?;
    }
    Ok(())
}

/// Whether the program was started to outlive its terminal, as by `nohup`.
#[cfg(unix)]
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Asks for an orderly stop.
pub fn request() {
    REQUESTED.store(true, Ordering::SeqCst);
}

/// Whether a stop was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
