//! Crash points for tests: a step of a commit can be made to fail as if the process had died there.

#[cfg(not(test))]
#[inline]
pub(super) fn step() -> floe_wire::error::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use armed::{arm, disarm, step};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    use floe_wire::error::{QueryError, Result};

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
        static FAILED: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets `steps` steps of this thread succeed, and fails all later ones.
    pub(crate) fn arm(steps: u32) {
        LEFT.set(Some(steps));
        FAILED.set(false);
    }

    /// Whether a step failed since `arm`.
    pub(crate) fn disarm() -> bool {
        LEFT.set(None);
        FAILED.take()
    }

    pub(crate) fn step() -> Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => {
                FAILED.set(true);
                Err(QueryError::io("injected failure"))
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
