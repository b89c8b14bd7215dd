//! Compares a result with that of the client's own version of Polars. The engine is one release of Rust Polars; what a
//! wheel of another release does differently is no fault of the distribution, but users see it, so it is reported, and
//! known differences are in a table (`expect`).
//!
//! Asked only about plans on which the other side is right by the engine's own Polars. So a difference here is one
//! between versions, unless the wheel gives what the engine's own Polars gives; or it is not promised, which further
//! runs of the engine show.

use std::time::Duration;

use polars_plan::dsl::DslPlan;

use super::again::Again;
use super::class::Class;
use super::compare::{Order, Verdict};
use super::judge::{Judged, beyond_promise, describe, differing, safely};
use super::oracle::{Outcome, same_error};
use super::promise;
use super::wheel::With;

/// How often to ask for more runs before a difference is called one.
const EXTRA_RUNS: usize = 4;

/// Compares what a wheel gives with what the other side (`there`) gives. `rust` is the outcome of the engine's own
/// Polars, by which `there` is right.
pub(super) fn judge(
    plan: &DslPlan,
    rust: &Outcome,
    there: &Outcome,
    wheel: &dyn Fn(With) -> Outcome,
    limit: Duration,
) -> Judged {
    let first = wheel(With::Streaming);
    if alike(&first, there, &Order::Exact) || alike(&first, rust, &Order::Exact) {
        return Judged::new(Class::Equal);
    }
    let order = promise::of_plan(plan.clone());
    for again in [With::InMemory, With::Streaming] {
        if alike(&first, there, &order) || alike(&wheel(again), there, &order) {
            return Judged::new(Class::Equal);
        }
    }
    let mut again = Again::ask(plan, rust, true, limit);
    let mut judged = reconsider(plan, rust, &first, there, &order, &again);
    for round in 0..EXTRA_RUNS {
        // A few rows can agree by chance.
        let varies = rust.as_ref().is_ok_and(|frames| round == 0 || again.unstable(frames).is_some());
        if !judged.class.is_fault() || !varies {
            break;
        }
        again.ask_more(plan, limit);
        judged = reconsider(plan, rust, &first, there, &order, &again);
    }
    judged
}

fn alike(wheel: &Outcome, there: &Outcome, order: &Order) -> bool {
    match (wheel, there) {
        (Ok(l), Ok(r)) => safely(l, r, order).is_equal(),
        (Err(l), Err(r)) => same_error(l, r),
        _ => false,
    }
}

fn reconsider(
    plan: &DslPlan,
    rust: &Outcome,
    wheel: &Outcome,
    there: &Outcome,
    order: &Order,
    again: &Again,
) -> Judged {
    let differs = |text: String| Judged::new(Class::VersionDiffers).detail(text);
    match (wheel, there) {
        (Ok(l), Ok(r)) => {
            let Ok(base) = rust else {
                return match safely(l, r, order) {
                    Verdict::Equal => Judged::new(Class::Equal),
                    Verdict::OrderDiffers(text) | Verdict::Differs(text) => differs(text),
                };
            };
            let judged = beyond_promise(plan, l, r, differing(base, l, r, order, again));
            match judged.class {
                Class::OrderDiffers | Class::Differs => Judged { class: Class::VersionDiffers, ..judged },
                _ => judged,
            }
        }
        // Releases word their errors differently.
        (Err(l), Err(r)) if l.class == r.class => {
            Judged::new(Class::FailedAlike).detail(describe(r)).note(format!("in other words: {}", describe(l)))
        }
        (Err(l), Err(r)) => differs(format!("{} in Polars; {} in Floe", describe(l), describe(r))),
        (Err(l), Ok(_)) => differs(format!("fails in Polars only: {}", describe(l))),
        (Ok(_), Err(r)) => differs(format!("fails in Floe only: {}", describe(r))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use polars::prelude::*;

    use super::*;
    use floe_wire::error::QueryError;

    fn class(rust: &Outcome, wheel: &Outcome, there: &Outcome) -> Class {
        let plan = df!("v" => [1i32]).unwrap().lazy().logical_plan;
        judge(&plan, rust, there, &|_| wheel.clone(), Duration::from_secs(30)).class
    }

    #[test]
    fn what_both_releases_do_is_no_difference_between_them() {
        let one = |v: i32| -> Outcome { Ok(vec![df!("v" => [v]).unwrap()]) };
        let failed = |text: &str| -> Outcome { Err(QueryError::user("InvalidOperationError", text)) };
        assert_eq!(class(&one(1), &one(1), &one(1)), Class::Equal);
        assert_eq!(class(&one(1), &one(2), &one(1)), Class::VersionDiffers);
        // Both fail over no rows, and stages do not compute anything over them.
        assert_eq!(class(&failed("no u32"), &failed("no u32"), &one(1)), Class::Equal);
        assert_eq!(class(&failed("no u32"), &failed("no i32"), &one(1)), Class::VersionDiffers);
        assert_eq!(class(&one(1), &failed("no u32"), &one(1)), Class::VersionDiffers);
    }
}
