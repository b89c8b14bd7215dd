//! Conditions of a status, the same for every kind.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Sets a condition. Its transition time changes only if its status does.
pub fn set(conditions: &mut Vec<Condition>, mut made: Condition) {
    match conditions.iter_mut().find(|known| known.type_ == made.type_) {
        Some(known) => {
            if known.status == made.status {
                made.last_transition_time = known.last_transition_time.clone();
            }
            *known = made;
        }
        None => conditions.push(made),
    }
}

/// A condition as of now.
pub fn made(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(now),
        observed_generation: generation,
    }
}
