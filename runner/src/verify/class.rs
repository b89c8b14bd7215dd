//! The possible outcomes of checking a plan, and which of them are faults.

use serde::Serialize;

/// The outcome of a plan's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Equal,
    /// Both fail with the same class and message.
    FailedAlike,
    /// The two differ where single-node Polars promises nothing.
    NotPromised,
    /// Neither side could read it.
    CouldNotBeRead,
    /// The result is right, but comes from a second run on one node: the stages had failed.
    FellBack,
    OrderDiffers,
    Differs,
    FailedInPolarsOnly,
    FailedInFloeOnly,
    /// Both fail, but not with the same class and message.
    FailedDifferently,
    /// The other side agrees with the engine's own Polars, but the client's version of Polars does something else.
    VersionDiffers,
}

impl Class {
    /// In the order of the report.
    pub const ALL: [Class; 11] = [
        Class::Equal,
        Class::OrderDiffers,
        Class::Differs,
        Class::FailedInPolarsOnly,
        Class::FailedInFloeOnly,
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
            Class::FailedInPolarsOnly => "failed in Polars only",
            Class::FailedInFloeOnly => "failed in Floe only",
            Class::FailedDifferently => "failed differently",
            Class::VersionDiffers => "version differs",
        }
    }

    /// Whether it is a fault, unless it was expected (`expect`).
    pub fn is_fault(self) -> bool {
        match self {
            Class::Equal | Class::FailedAlike | Class::NotPromised | Class::CouldNotBeRead => false,
            Class::FellBack
            | Class::OrderDiffers
            | Class::Differs
            | Class::FailedInPolarsOnly
            | Class::FailedInFloeOnly
            | Class::FailedDifferently
            | Class::VersionDiffers => true,
        }
    }
}
