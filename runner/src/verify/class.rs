//! What checking a plan can come to, and which of it is a fault.

use serde::Serialize;

/// What a plan's runs came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Equal,
    /// Both fail with one class and message.
    FailedAlike,
    /// The two differ where single-node Polars promises nothing.
    NotPromised,
    /// Neither side could read it.
    CouldNotBeRead,
    /// The result is right, but it is that of a second run on one node: the stages had failed.
    FellBack,
    OrderDiffers,
    Differs,
    FailedHereOnly,
    FailedThereOnly,
    /// Both fail, but not with the same class and message.
    FailedDifferently,
    /// The other side does what the engine's own Polars does, and the client's version of Polars does something else.
    VersionDiffers,
}

impl Class {
    /// In the order in which a report lists them.
    pub const ALL: [Class; 11] = [
        Class::Equal,
        Class::OrderDiffers,
        Class::Differs,
        Class::FailedHereOnly,
        Class::FailedThereOnly,
        Class::FailedDifferently,
        Class::FellBack,
        Class::VersionDiffers,
        Class::FailedAlike,
        Class::CouldNotBeRead,
        Class::NotPromised,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Class::Equal => "equal",
            Class::FailedAlike => "failed alike",
            Class::NotPromised => "not promised",
            Class::CouldNotBeRead => "could not be read",
            Class::FellBack => "fell back",
            Class::OrderDiffers => "order differs",
            Class::Differs => "differs",
            Class::FailedHereOnly => "failed here only",
            Class::FailedThereOnly => "failed there only",
            Class::FailedDifferently => "failed differently",
            Class::VersionDiffers => "version differs",
        }
    }

    /// Whether it is a fault, unless it is expected (`expect`).
    pub fn is_fault(self) -> bool {
        match self {
            Class::Equal | Class::FailedAlike | Class::NotPromised | Class::CouldNotBeRead => false,
            Class::FellBack
            | Class::OrderDiffers
            | Class::Differs
            | Class::FailedHereOnly
            | Class::FailedThereOnly
            | Class::FailedDifferently
            | Class::VersionDiffers => true,
        }
    }
}
