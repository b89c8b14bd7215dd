//! Crash points: in tests, a step of a commit can be made to fail as if the process had died there.

#[cfg(not(test))]
#[inline]
pub(super) fn step() -> crate::error::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use armed::{arm, disarm, step};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    use crate::error::{QueryError, Result};

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Lets `steps` steps of this thread pass and fails the next ones.
    pub(crate) fn arm(steps: u32) {
        LEFT.set(Some(steps));
    }

    /// Whether a step failed since `arm`.
    pub(crate) fn disarm() -> bool {
        LEFT.take() == Some(0)
    }

    pub(crate) fn step() -> Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(QueryError::io("injected failure")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}
