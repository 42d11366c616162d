//! Ctrl-C and SIGTERM: the step at hand is finished, the state saved.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static LISTENING: Once = Once::new();

/// From here on a first signal asks for an orderly stop; a second one ends the program at once. Asked again, it changes nothing.
pub fn listen() -> anyhow::Result<()> {
    let mut done = Ok(());
    LISTENING.call_once(|| {
        done = ctrlc::set_handler(|| {
            if REQUESTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
    });
    Ok(done?)
}

/// Whether a stop was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
