//! Ctrl-C: a request to stop, which the work in progress looks at; a second one ends the program.

use std::process;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::INTERRUPTED;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static LISTENING: Once = Once::new();

/// From now on Ctrl-C only asks. Without a handler (none could be installed) it ends the program as
/// ever, which is the safe way to fail.
pub(crate) fn listen() {
    LISTENING.call_once(|| {
        let _ = ctrlc::set_handler(|| {
            if REQUESTED.swap(true, Ordering::Relaxed) {
                process::exit(i32::from(INTERRUPTED));
            }
        });
    });
}

/// Whether Ctrl-C was pressed since [`clear`].
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Forgets a request that has been answered.
pub(crate) fn clear() {
    REQUESTED.store(false, Ordering::Relaxed);
}
